"""The chosen checkpoint, and which motion modules fit it. Nothing here loads a checkpoint or reads its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lib_animatediff.builtin_model import of_motion
from lib_animatediff.engine.unet import find_sites
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.host_models import loaded_model
from motion_module import MotionFileError, MotionFileInfo
from motion_module.files.weights import read_header
from motion_module.kinds import BASES

_WITHOUT_MODULES = {"is_sd2": "Stable Diffusion 2", "is_sd3": "Stable Diffusion 3", "is_ssd": "SSD-1B"}  # by flag
# What files of Stable Diffusion have, by key.
_UNET, _LABEL, _OPEN_CLIP = "model.diffusion_model.", "label_emb.0.0.weight", "cond_stage_model.model.ln_final.weight"
_BLOCK, _CONVOLUTION, _NEXT_LEVEL = "input_blocks.{}.0.", "out_layers.3.weight", "op.weight"


@dataclass(frozen=True)
class Checkpoint:
    """What is known about the chosen checkpoint.

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


def chosen_checkpoint() -> Checkpoint | None:
    """The chosen checkpoint: as it is loaded, or as its file is while another one is loaded; None if it is unknown."""
    path = a1111.file_of_chosen_checkpoint()
    if path is None or path == a1111.file_of_loaded_checkpoint():
        return _loaded()
    try:
        return _of_file(path, path.stat().st_mtime_ns)
    except (MotionFileError, OSError):
        return None


def _loaded() -> Checkpoint | None:
    loaded = a1111.loaded_model()
    if loaded is None or loaded_model() is None:
        return None
    for flag, name in _WITHOUT_MODULES.items():
        if getattr(loaded, flag, False):
            return Checkpoint(name, None)
    base = "sdxl" if getattr(loaded, "is_sdxl", False) else "sd15"
    return Checkpoint(BASES[base], base, _widths())


@lru_cache(maxsize=16)
def _of_file(path: Path, _changed: int) -> Checkpoint | None:
    """What the names and shapes in a file say; None for other files than those of Stable Diffusion."""
    tensors = read_header(path).tensors
    shapes = {name.removeprefix(_UNET): each.shape for name, each in tensors.items() if name.startswith(_UNET)}
    if _BLOCK.format(1) + _CONVOLUTION not in shapes:
        return None
    if _OPEN_CLIP in tensors:
        return Checkpoint(_WITHOUT_MODULES["is_sd2"], None)
    base = "sdxl" if _LABEL in shapes else "sd15"
    return Checkpoint(BASES[base], base, _widths_of(shapes))


def _widths_of(shapes: Mapping[str, tuple[int, ...]]) -> tuple[int, ...]:
    """Channels at each resolution, from the ResBlock with which it begins."""
    widths, begins, number = [], True, 1
    while any(name.startswith(block := _BLOCK.format(number)) for name in shapes):
        if begins and (shape := shapes.get(block + _CONVOLUTION)):
            widths.append(shape[0])
        begins = block + _NEXT_LEVEL in shapes
        number += 1
    return tuple(widths)


def _widths() -> tuple[int, ...]:
    model = loaded_model()
    sites = None if model is None else find_sites(model.unet)
    widths: dict[str, int] = {}
    for site in sites or ():
        path, level, *_ = site.name.split(".")
        if path == "down_blocks":
            widths.setdefault(level, site.channels)
    return tuple(widths.values())
