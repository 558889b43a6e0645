"""From a build to the files that are part of the package."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from lib_animatediff.builtin_model import POCKET, BuiltInModel

TOKENIZER = "openai/clip-vit-large-patch14"  # replaced by a full path where the WebUI is told of the model
SOURCES = {
    POCKET.checkpoint: "pocket.safetensors",
    POCKET.motion: "motion.safetensors",
    POCKET.style_lora: "style-lora.safetensors",
    POCKET.motion_loras[0]: "pan.safetensors",
    POCKET.control: "control.safetensors",
    POCKET.fast_motion: "fast.safetensors",
    POCKET.sparse_ctrl: "sparse.safetensors",
}


def ship(
    build: Path, target: Path, model: BuiltInModel = POCKET, sources: Mapping[str, str] | None = None
) -> list[Path]:
    """Copy what the package needs, as far as it is built; returns the files.

    Args:
        build: folder of a finished build.
        target: the model's folder in ``lib_animatediff/builtin_model``.
        model: which one.
        sources: of its files, names in the build.
    """
    target.mkdir(parents=True, exist_ok=True)
    there = {name: build / source for name, source in (sources or SOURCES).items() if (build / source).is_file()}
    copied = [Path(shutil.copyfile(path, target / name)) for name, path in there.items()]
    # The tokenizer is Stable Diffusion's own, which the package holds already.
    shutil.copytree(build / "config", target / "config", ignore=shutil.ignore_patterns("tokenizer"), dirs_exist_ok=True)
    config = target / f"{model.name}.yaml"
    written = json.loads((build / config.name).read_text(encoding="utf-8"))
    written["model"]["params"]["cond_stage_config"]["params"]["version"] = TOKENIZER
    config.write_text(json.dumps(written, indent=2) + "\n", encoding="utf-8")
    return [*copied, *sorted(target.glob("config/**/*.json")), config]
