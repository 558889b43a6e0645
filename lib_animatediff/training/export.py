"""Write trained weights under official names, with the training's recipe as metadata."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from motion_module import MotionModule
from motion_module.camera_ctrl.network import CameraCtrl
from motion_module.files.atomic import atomic_write
from motion_module.sparse_ctrl.network import SparseCtrl
from motion_module.temporal_transformer import TemporalAttention, positional_table

from .control import official_names
from .pia import image_input_state
from .trainables import Target

METADATA_KEY = "lib_animatediff_training"

_PEFT_NAME = re.compile(r"(.*)\.(to_q|to_k|to_v|to_out)(?:\.0)?\.lora_([AB])\.default\.weight")
_DIRECTIONS = {"A": "down", "B": "up"}


def official_state(target: Target) -> dict[str, Tensor]:
    """Trained weights by official name, float32 on the CPU."""
    if any("lora_" in name for name in target.weights):
        return {_lora_name(name): weight.detach().float().cpu() for name, weight in target.weights.items()}
    if target.control is not None:
        names = official_names(target.control)
        return {names[name]: weight.detach().float().cpu() for name, weight in target.weights.items()}
    if target.encoder is not None:
        return state_with_tables(target.encoder)
    if target.steering is not None:
        camera = target.steering.model
        official = camera.official_names
        return {official.get(name, name): each for name, each in state_with_tables(camera).items()}
    assert target.motion is not None  # only motion modules are trained as a whole
    state = state_with_tables(target.motion)
    if target.image_input is not None:
        state |= image_input_state(target.unet, target.image_input)
    return state


def state_with_tables(network: MotionModule | SparseCtrl | CameraCtrl) -> dict[str, Tensor]:
    """All weights of a network with its positional tables, which reveal the trained length to other tools."""
    state = {name: weight.detach().float().cpu() for name, weight in network.state_dict().items()}
    for name, layer in network.named_modules():
        if isinstance(layer, TemporalAttention):
            table = positional_table(network.trained_length, layer.to_q.in_features)
            state[f"{name}.pos_encoder.pe"] = table
    return state


def _lora_name(name: str) -> str:
    """Official name of a PEFT parameter, for motion LoRAs and the v3 adapter alike."""
    match = _PEFT_NAME.fullmatch(name)
    assert match is not None, name
    return f"{match[1]}.processor.{match[2]}_lora.{_DIRECTIONS[match[3]]}.weight"


def write(path: Path, target: Target, about: Mapping[str, Any], *, half: bool = False) -> None:
    """Write the result as safetensors.

    Args:
        path: target file, written atomically.
        about: recipe for the metadata.
        half: whether to write half precision.
    """
    dtype = torch.float16 if half else torch.float32
    state = {name: tensor.to(dtype).contiguous() for name, tensor in official_state(target).items()}
    with atomic_write(path) as part:
        save_file(state, part, metadata={"format": "pt", METADATA_KEY: json.dumps(about, sort_keys=True)})


def read_recipe(path: Path) -> dict[str, Any]:
    """The recipe in a written file; empty for files of other trainers."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        return json.loads((file.metadata() or {}).get(METADATA_KEY, "{}"))  # type: ignore[no-any-return]
