"""The built-in model, small enough for the package: a clip needs neither a download nor a graphics card."""

from __future__ import annotations

import json
import shutil
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
        CheckpointError: the folder does not contain ``models``, or the built-in model is missing.
    """
    models = webui / "models"
    if not models.is_dir():
        raise CheckpointError(f"{webui} contains no folder named models. Give the WebUI's own folder.", code="AD-B02")
    source = pocket_folder()
    places = {CHECKPOINT: "Stable-diffusion", MOTION: "animatediff", STYLE_LORA: "Lora"}
    copied = []
    for name, place in places.items():
        if not (source / name).is_file():
            continue  # the build is unfinished
        target = models / place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copied.append(Path(shutil.copyfile(source / name, target)))
    return [*copied, _write_webui_config(source, models / "Stable-diffusion")]


def _write_webui_config(source: Path, folder: Path) -> Path:
    """Write the checkpoint's `.yaml`, with the full path of the text encoder's config and tokenizer for the WebUI."""
    clip = folder / "pocket-clip"
    shutil.copytree(STABLE_DIFFUSION_15 / "tokenizer", clip, dirs_exist_ok=True)
    shutil.copyfile(source / "config" / "text_encoder" / "config.json", clip / "config.json")
    config = json.loads((source / "pocket.yaml").read_text(encoding="utf-8"))
    config["model"]["params"]["cond_stage_config"]["params"]["version"] = str(clip.resolve())
    target = folder / "pocket.yaml"
    target.write_text(json.dumps(config, indent=2), encoding="utf-8")  # JSON is YAML
    return target
