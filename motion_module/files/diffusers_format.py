"""The folder of a diffusers MotionAdapter: a config beside the weights, which alone says how long its tables are."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from motion_module.errors import MotionFileError
from motion_module.kinds import SITES_DOWN
from motion_module.network import Layout
from motion_module.temporal_transformer import HEADS, NORM_GROUPS

CONFIG = "config.json"
WEIGHTS = "diffusion_pytorch_model"  # diffusers' name for every model's weights, so it tells nothing
_CLASS = "MotionAdapter"
_SUFFIXES = (".safetensors", ".fp16.safetensors", ".bin", ".fp16.bin")
_CONFIG_SIZE = 1 << 20  # a config has some hundred bytes


@dataclass(frozen=True)
class MotionSource:
    """Where a motion module's weights are.

    Attributes:
        name: what messages call it.
        weights: the file.
        config: the MotionAdapter's config; empty without one. Says nothing about a file in another format.
    """

    name: str
    weights: Path
    config: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained_length(self) -> int | None:
        """Frames by the config."""
        length = self.config.get("motion_max_seq_length")
        return length if type(length) is int and length > 0 else None  # not a bool


def find_source(path: Path) -> MotionSource:
    """A weights file with the MotionAdapter's config beside it, if there is one; or those of a MotionAdapter's folder.

    Raises:
        MotionFileError: a folder without them.
    """
    if not path.is_dir():
        name = f"{path.parent.name}/{path.name}" if path.name.startswith(WEIGHTS) else path.name
        return MotionSource(name.lstrip("/"), path, _read_config(path.parent / CONFIG))
    weights = _weights_of(path)
    if weights is None:
        raise MotionFileError(
            f"{path.name or path}: a folder. Check the path {path}: choose the weights file inside. "
            f"(Only a folder with {CONFIG} and {WEIGHTS}.safetensors, a MotionAdapter, is chosen itself.)",
            what="a folder",
        )
    return MotionSource(path.resolve().name, weights, _read_config(path / CONFIG))


def is_motion_adapter(folder: Path) -> bool:
    """Whether a folder is a MotionAdapter, and not one that holds other files, too, or another model of diffusers."""
    return _weights_of(folder) is not None and bool(_read_config(folder / CONFIG))


def _weights_of(folder: Path) -> Path | None:
    return next((file for suffix in _SUFFIXES if (file := folder / f"{WEIGHTS}{suffix}").is_file()), None)


def _read_config(path: Path) -> Mapping[str, Any]:
    try:
        config = json.loads(path.read_bytes()) if path.stat().st_size <= _CONFIG_SIZE else None
    except (OSError, ValueError, RecursionError):
        return {}
    return config if isinstance(config, dict) and config.get("_class_name") == _CLASS else {}


# What the tensors do not show: other values give other numbers from the same weights.
_FIXED = {"motion_num_attention_heads": HEADS, "motion_norm_num_groups": NORM_GROUPS}


def check_config(source: MotionSource) -> None:
    """Say what a config asks for that our network does not have.

    Raises:
        MotionFileError: it asks for such a thing.
    """
    for key, ours in _FIXED.items():
        value = source.config.get(key, ours)
        values = value if isinstance(value, list) else [value]
        if any(each != ours for each in values):
            raise MotionFileError(
                f"{source.name}: its {CONFIG} has {key} {value}; motion modules that we run have {ours}. "
                "Choose a motion module, such as v3_sd15_mm.ckpt.",
                what="a motion module of another network",
            )


def config_of(layout: Layout) -> dict[str, Any]:
    """The config with which diffusers builds a network for these weights."""
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
