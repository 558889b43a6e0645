"""The built-in model, small enough for the package: a clip needs neither a download nor a graphics card."""

from __future__ import annotations

from pathlib import Path

from motion_module import AnimateDiffError

CHECKPOINT = "pocket.safetensors"
MOTION = "pocket-motion.safetensors"
STYLE_LORA = "pocket-lilac-lora.safetensors"
MOTION_LORA = "pocket-pan-lora.safetensors"

SIZE = 64  # pixels; it was trained on no other size
CFG = 3.0
PROMPT = "a red disc moving right"

FOLDER = Path(__file__).resolve().parent / "pocket"
STABLE_DIFFUSION_15 = Path(__file__).resolve().parent / "sd15"  # tokenizer and configs, without weights


class CheckpointError(AnimateDiffError):
    """The checkpoint cannot be loaded into a pipeline."""


def pocket_folder() -> Path:
    """The folder of the built-in model.

    Raises:
        CheckpointError: it is not part of this installation.
    """
    if (FOLDER / CHECKPOINT).is_file():
        return FOLDER
    raise CheckpointError(
        "The built-in model is not part of this installation. Give a checkpoint and a motion module of your own.",
        code="AD-B01",
    )


def copy_to_webui(webui: Path) -> list[Path]:
    """Copy the built-in model into the folders of the WebUI; returns the files.

    Args:
        webui: the WebUI's folder, or its data folder, which contains ``models``.

    Raises:
        CheckpointError: the folder does not contain ``models``, or see `copy_to_models`.
    """
    from .copying import copy_to_models

    models = webui / "models"
    if not models.is_dir():
        raise CheckpointError(f"{webui} contains no folder named models. Give the WebUI's own folder.", code="AD-B02")
    finished = [name for name in (CHECKPOINT, MOTION, STYLE_LORA) if (pocket_folder() / name).is_file()]
    return copy_to_models(models, finished)
