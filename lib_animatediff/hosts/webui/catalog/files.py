"""Looks up the user's files for a plan, and keeps loaded files between requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from lib_animatediff.request.control.choosing import GuideFiles
from motion_module.kinds import I2V, PIA

from .encoders import EncoderCache, find_camera, find_encoder
from .interpolators import find_rife
from .loras import LoraCache, find_lora
from .models import MotionModuleCache, find_model, kind_of, method_without_file


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


def guide_files(model: str) -> GuideFiles:
    """The user's SparseCtrl encoders and cameras, and the motion module of this name if it needs an image."""
    if method_without_file(model) is not None:
        return GuideFiles(find_encoder, find_camera)
    path = find_model(model)
    kind = kind_of(path)
    pia, i2v = (path if kind == each.name else None for each in (PIA, I2V))
    return GuideFiles(find_encoder, find_camera, pia, i2v, kind)


@dataclass(frozen=True)
class Caches:
    """Loaded files that the next request may reuse, shared by both tabs."""

    modules: MotionModuleCache = field(default_factory=MotionModuleCache)
    loras: LoraCache = field(default_factory=LoraCache)
    encoders: EncoderCache = field(default_factory=EncoderCache)
