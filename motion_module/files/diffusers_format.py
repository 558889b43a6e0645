"""A diffusers MotionAdapter: a folder with weights and a config, which alone states the length of the tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motion_module.errors import MotionFileError
from motion_module.kinds import SITES_DOWN
from motion_module.limits import is_file, is_folder
from motion_module.network import Layout
from motion_module.temporal_transformer import HEADS, NORM_GROUPS

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"  # diffusers names the weights of every model like this
_CLASS = "MotionAdapter"
_SUFFIXES = (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")
_CONFIG_SIZE = 1 << 20  # bytes: real configs have a few hundred


@dataclass(frozen=True)
class MotionSource:
    """Location of a motion module's weights.

    Attributes:
        name: name for messages.
        weights: the weights file.
        config: the MotionAdapter's config, empty without one. Meaningless for files in other formats.
    """

    name: str
    weights: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained_length(self) -> int | None:
        """Trained length according to the config, in frames."""
        length = self.config.get("motion_max_seq_length")
        return length if type(length) is int and length > 0 else None  # excludes bool


def find_source(path: Path) -> MotionSource:
    """A weights file with the MotionAdapter config next to it, if any; or the files of a MotionAdapter folder.

    Raises:
        MotionFileError: the folder is not a MotionAdapter.
    """
    if not is_folder(path):
        name = f"{path.parent.name}/{path.name}" if path.name.startswith(WEIGHTS) else path.name
        return MotionSource(name.lstrip("/"), path, _read_config(path.parent / CONFIG))
    weights = _weights_of(path)
    if weights is None:
        raise MotionFileError(
            f"{path.name or path} is a folder. Choose the weights file inside {path}. "
            f"(Only a MotionAdapter, a folder with {CONFIG} and {WEIGHTS}.safetensors, is loaded as a whole.)",
            what="a folder",
            code="AD-F16",
        )
    return MotionSource(path.resolve().name, weights, _read_config(path / CONFIG))


def is_motion_adapter(folder: Path) -> bool:
    """Whether a folder is a diffusers MotionAdapter."""
    return _weights_of(folder) is not None and bool(_read_config(folder / CONFIG))


def _weights_of(folder: Path) -> Path | None:
    return next((file for suffix in _SUFFIXES if is_file(file := folder / f"{WEIGHTS}{suffix}")), None)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes()) if path.stat().st_size <= _CONFIG_SIZE else None
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) and config.get("_class_name") == _CLASS else {}


# Hyperparameters that tensor shapes do not reveal: with other values the same weights give other results.
_FIXED = {"motion_num_attention_heads": HEADS, "motion_norm_num_groups": NORM_GROUPS}


def check_config(source: MotionSource) -> None:
    """Check the hyperparameters that tensor shapes do not reveal.

    Raises:
        MotionFileError: our network does not support one of them.
    """
    for key, ours in _FIXED.items():
        value = source.config.get(key, ours)
        values = value if isinstance(value, list) else [value]
        if any(each != ours for each in values):
            raise MotionFileError(
                f"{source.name} has {key} {value} in its {CONFIG}, but only {ours} is supported. "
                "Choose a motion module such as v3_sd15_mm.ckpt.",
                what="a motion module with an unsupported network",
                code="AD-F17",
            )


def config_of(layout: Layout) -> dict[str, Any]:
    """Config that makes diffusers build a matching network."""
    return {
        "_class_name": _CLASS,
        "block_out_channels": [widths[0] for widths in layout.down],
        "motion_layers_per_block": SITES_DOWN,
        "motion_max_seq_length": layout.trained_length,
        "motion_mid_block_layers_per_block": 1,
        "motion_norm_num_groups": NORM_GROUPS,
        "motion_num_attention_heads": HEADS,
        "use_motion_mid_block": layout.mid is not None,
    }
