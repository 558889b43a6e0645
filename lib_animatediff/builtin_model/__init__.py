"""The built-in models, small enough for the package: a clip needs neither a download nor a graphics card."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from motion_module import AnimateDiffError

_HERE = Path(__file__).resolve().parent
STABLE_DIFFUSION_15 = _HERE / "sd15"  # tokenizer and configs, without weights


class CheckpointError(AnimateDiffError):
    """The checkpoint cannot be loaded into a pipeline."""


@dataclass(frozen=True)
class BuiltInModel:
    """A built-in model: names of its files, and settings that suit it.

    Attributes:
        name: of its folder, and of its checkpoint without the suffix.
        size: of its images, in pixels; it was trained on no other size.
        cfg: a CFG scale.
        prompt: an example.
        knows: what its images can show, for people.
        style_lora: a LoRA for the checkpoint; empty without one.
        motion_loras: for the motion module.
        control: a ControlNet for the checkpoint; empty without one.
        sparse_ctrl: a SparseCtrl encoder for images; empty without one.
        camera: a CameraCtrl model for the motion module; empty without one.
        fast_motion: the motion module distilled for few steps without CFG; empty without one.
    """

    name: str
    size: int
    cfg: float
    prompt: str
    knows: str
    style_lora: str
    motion_loras: tuple[str, ...]
    control: str = ""
    sparse_ctrl: str = ""
    camera: str = ""
    fast_motion: str = ""

    @property
    def checkpoint(self) -> str:
        """Name of the checkpoint's file."""
        return f"{self.name}.safetensors"

    @property
    def motion(self) -> str:
        """Name of the motion module's file."""
        return f"{self.name}-motion.safetensors"

    @property
    def files(self) -> tuple[str, ...]:
        """Names of all weights, the checkpoint's first."""
        own = self.style_lora, *self.motion_loras, self.control, self.sparse_ctrl, self.camera
        return tuple(filter(None, (self.checkpoint, *self.modules, *own)))

    @property
    def modules(self) -> tuple[str, ...]:
        """Names of the motion modules' files."""
        return tuple(filter(None, (self.motion, self.fast_motion)))

    @property
    def is_installed(self) -> bool:
        """Whether it is part of this installation."""
        return (_HERE / self.name / self.checkpoint).is_file()

    @property
    def folder(self) -> Path:
        """The folder of its files.

        Raises:
            CheckpointError: it is not part of this installation.
        """
        if self.is_installed:
            return _HERE / self.name
        raise CheckpointError(
            "The built-in model is not part of this installation. Give a checkpoint and a motion module of your own.",
            code="AD-B01",
        )


POCKET = BuiltInModel(
    name="pocket",
    size=64,
    cfg=3.0,
    prompt="a red disc moving right",
    knows="small coloured shapes",
    style_lora="pocket-lilac-lora.safetensors",
    motion_loras=("pocket-pan-lora.safetensors",),
    control="pocket-control.safetensors",
    sparse_ctrl="pocket-sparsectrl.safetensors",
    fast_motion="pocket-fast-motion.safetensors",
)
MODELS = {model.name: model for model in (POCKET,)}
DEFAULT = POCKET


def built_in(checkpoint: Path) -> BuiltInModel | None:
    """The built-in model of a name; None for the path of a file, of which one beside us is ``./name``."""
    return MODELS.get(str(checkpoint))


def of_motion(name: str) -> BuiltInModel | None:
    """The built-in model whose motion module has this file name; None for another's."""
    return next((model for model in MODELS.values() if name in model.modules), None)


def copy_to_webui(webui: Path, model: BuiltInModel) -> list[Path]:
    """Copy a built-in model into the folders of the WebUI; returns the files.

    Args:
        webui: the WebUI's folder, or its data folder, which contains ``models``.
        model: which one.

    Raises:
        CheckpointError: the folder does not contain ``models``, or see `copy_to_models`.
    """
    from .copying import copy_to_models

    models = webui / "models"
    if not models.is_dir():
        raise CheckpointError(f"{webui} contains no folder named models. Give the WebUI's own folder.", code="AD-B02")
    return copy_to_models(models, model)
