"""From a build to the files that are part of the package."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from lib_animatediff.builtin_model import CHECKPOINT, MOTION, MOTION_LORA, STYLE_LORA

TOKENIZER = "openai/clip-vit-large-patch14"  # replaced by a full path where the WebUI is told of the model


def ship(build: Path, target: Path) -> list[Path]:
    """Copy what the package needs, as far as it is built; returns the files.

    Args:
        build: folder of a finished build.
        target: ``lib_animatediff/builtin_model/pocket``.
    """
    target.mkdir(parents=True, exist_ok=True)
    sources = {
        CHECKPOINT: "pocket.safetensors",
        MOTION: "motion.safetensors",
        STYLE_LORA: "style-lora.safetensors",
        MOTION_LORA: "pan.safetensors",
    }
    there = {name: build / source for name, source in sources.items() if (build / source).is_file()}
    copied = [Path(shutil.copyfile(path, target / name)) for name, path in there.items()]
    # The tokenizer is Stable Diffusion's own, which the package holds already.
    shutil.copytree(build / "config", target / "config", ignore=shutil.ignore_patterns("tokenizer"), dirs_exist_ok=True)
    config = json.loads((build / "pocket.yaml").read_text(encoding="utf-8"))
    config["model"]["params"]["cond_stage_config"]["params"]["version"] = TOKENIZER
    (target / "pocket.yaml").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    return [*copied, *sorted(target.glob("config/**/*.json")), target / "pocket.yaml"]
