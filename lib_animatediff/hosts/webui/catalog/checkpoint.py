"""The loaded checkpoint, and which motion modules fit it. Nothing here loads a checkpoint or reads its weights."""

from __future__ import annotations

from dataclasses import dataclass

from lib_animatediff.builtin_model import of_motion
from lib_animatediff.engine.unet import find_sites
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.host_models import loaded_model
from motion_module import MotionFileInfo
from motion_module.kinds import BASES

_WITHOUT_MODULES = {"is_sd2": "Stable Diffusion 2", "is_sd3": "Stable Diffusion 3", "is_ssd": "SSD-1B"}  # by flag


@dataclass(frozen=True)
class LoadedCheckpoint:
    """What is known about the loaded checkpoint.

    Attributes:
        name: its base, for messages.
        base: a key of `BASES`; None for a base without motion modules.
        widths: channels at each resolution of its UNet, the finest first; empty if unknown.
    """

    name: str
    base: str | None
    widths: tuple[int, ...] = ()

    def unsuited(self, module: MotionFileInfo) -> str:
        """Why a motion module does not fit, as sentences; empty if it does. The refusals of `engine.bases`, earlier."""
        if module.base is None or module.widths is None:
            return ""
        if module.base != self.base:
            return (
                f"{module.name} is for {BASES[module.base]}, but the checkpoint is {self.name}. "
                f"Choose a motion module for {self.name}, or another checkpoint."
            )
        pairs = zip(module.widths, self.widths, strict=False)  # a UNet of an unknown layout may have other levels
        different = next(((ours, theirs) for ours, theirs in pairs if ours != theirs), None)
        if different is None:
            return ""
        if model := of_motion(module.name):
            return (
                f"{model.motion} is a built-in motion module. It fits the built-in checkpoint {model.checkpoint} only. "
                "Choose that checkpoint at the top of the page, or another motion module."
            )
        return (
            f"{module.name} is for a model of another size: it has {different[0]} channels where the checkpoint has "
            f"{different[1]}. Choose another motion module."
        )


def loaded_checkpoint() -> LoadedCheckpoint | None:
    """The loaded checkpoint; None if none is loaded."""
    loaded = a1111.loaded_model()
    if loaded is None or loaded_model() is None:
        return None
    for flag, name in _WITHOUT_MODULES.items():
        if getattr(loaded, flag, False):
            return LoadedCheckpoint(name, None)
    base = "sdxl" if getattr(loaded, "is_sdxl", False) else "sd15"
    return LoadedCheckpoint(BASES[base], base, _widths())


def _widths() -> tuple[int, ...]:
    model = loaded_model()
    sites = None if model is None else find_sites(model.unet)
    widths: dict[str, int] = {}
    for site in sites or ():
        path, level, *_ = site.name.split(".")
        if path == "down_blocks":
            widths.setdefault(level, site.channels)
    return tuple(widths.values())
