"""Copies a built-in model into the WebUI's folders: complete files or none, and none of the user's is replaced."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from lib_animatediff.video.atomic import atomic_file, plain_reason

from . import STABLE_DIFFUSION_15, BuiltInModel, CheckpointError

_CHECKPOINTS, _MOTION, _LORAS, _CONTROL = "Stable-diffusion", "animatediff", "Lora", "ControlNet"


def copy_to_models(models: Path, model: BuiltInModel) -> list[Path]:
    """Copy a built-in model, and what the WebUI needs to load its checkpoint; returns the files, the checkpoint first.

    Files that are already there are kept.

    Args:
        models: the WebUI's folder of models.
        model: which one.

    Raises:
        CheckpointError: a folder cannot be written, another file has the name, or the built-in model is missing.
    """
    source = model.folder
    places = {model.checkpoint: _CHECKPOINTS, **dict.fromkeys(model.modules, _MOTION)}
    places |= dict.fromkeys((model.control, model.sparse_ctrl), _CONTROL)
    copies = [(models / places.get(name, _LORAS) / name, (source / name).read_bytes()) for name in model.files]
    config = models / _CHECKPOINTS / f"{model.name}.yaml"
    clip = config.parent / f"{model.name}-clip"  # the folder of the text encoder's config and tokenizer
    text_encoder = list(_text_encoder(source, clip))
    # The checkpoint comes after what it needs, so that the WebUI never lists one that it cannot load.
    everything = [*text_encoder, (config, _webui_config(source / config.name, clip)), *reversed(copies)]
    missing = [(target, content) for target, content in everything if not _is_there(target, content)]
    for target, content in missing:
        try:
            with atomic_file(target) as part:
                part.write_bytes(content)
        except OSError as error:
            raise CheckpointError(
                f"{target.parent} cannot be written: {plain_reason(error)}. Make the folder writable, then try again.",
                code="AD-B03",
            ) from error
    return [*(target for target, _ in copies), config]


def _is_there(target: Path, content: bytes) -> bool:
    """Whether the file is already there, so that it need not be written.

    Raises:
        CheckpointError: another file has its name.
    """
    if not os.path.lexists(target):
        return False
    present = _content(target)
    if present == content:
        return True
    if target.suffix == ".yaml" and present is not None and _without_place(present) == _without_place(content):
        return False  # ours, written before the folder was moved
    raise CheckpointError(
        f"{target.parent} contains another file named {target.name}, which is not replaced. Rename or move it, "
        "then try again.",
        code="AD-B04",
    )


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _text_encoder(source: Path, folder: Path) -> Iterator[tuple[Path, bytes]]:
    for path in sorted((STABLE_DIFFUSION_15 / "tokenizer").iterdir()):
        yield folder / path.name, path.read_bytes()
    yield folder / "config.json", (source / "config" / "text_encoder" / "config.json").read_bytes()


def _webui_config(written: Path, clip: Path) -> bytes:
    """The checkpoint's `.yaml`, with the full path of the text encoder's config and tokenizer for the WebUI."""
    config = json.loads(written.read_text(encoding="utf-8"))
    _text_encoder_of(config)["version"] = str(clip.resolve())
    return json.dumps(config, indent=2).encode("utf-8")  # JSON is YAML


def _text_encoder_of(config: dict[str, dict[str, dict[str, dict[str, dict[str, str]]]]]) -> dict[str, str]:
    return config["model"]["params"]["cond_stage_config"]["params"]


def _without_place(content: bytes) -> object:
    """The content of a config of ours without the full path; None for another file."""
    try:
        config = json.loads(content)
        del _text_encoder_of(config)["version"]
    except (ValueError, KeyError, TypeError):
        return None
    return config
