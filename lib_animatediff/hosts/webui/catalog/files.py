"""Looks up the user's files for a plan, and keeps loaded files between requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .interpolators import find_rife
from .loras import LoraCache, find_lora
from .models import MotionModuleCache, find_model


class WebuiCatalog:
    """Finds motion modules and motion LoRAs by the names in the panel's lists."""

    def find_motion(self, name: str) -> Path:
        """See `models.find_model`."""
        return find_model(name)

    def find_lora(self, name: str) -> Path:
        """See `loras.find_lora`."""
        return find_lora(name)

    def find_rife(self, name: str) -> Path:
        """See `interpolators.find_rife`."""
        return find_rife(name)


@dataclass(frozen=True)
class Caches:
    """Loaded files that the next request may reuse, shared by both tabs."""

    modules: MotionModuleCache = field(default_factory=MotionModuleCache)
    loras: LoraCache = field(default_factory=LoraCache)
