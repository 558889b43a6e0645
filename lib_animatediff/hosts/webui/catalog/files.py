"""The user's files in the WebUI as a plan looks them up, and what is kept of them between requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .loras import LoraCache, find_lora
from .models import MotionModuleCache, find_model


class WebuiCatalog:
    """Motion modules and motion LoRAs by the names of the panel's lists."""

    def find_motion(self, name: str) -> Path:
        """See `models.find_model`."""
        return find_model(name)

    def find_lora(self, name: str) -> Path:
        """See `loras.find_lora`."""
        return find_lora(name)


@dataclass(frozen=True)
class Caches:
    """What is kept for the next request, of both tabs: they serve one checkpoint."""

    modules: MotionModuleCache = field(default_factory=MotionModuleCache)
    loras: LoraCache = field(default_factory=LoraCache)
