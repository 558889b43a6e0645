"""Twenty files that are no SparseCtrl encoder, or a damaged one, with the code of what is said of each."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import save_file
from support.adapter_files import diffusers_layers, random_adapter, write_adapter
from support.hosts import diffusers_unet
from support.motion_files import write_motion_file
from support.motion_lora_files import write_lora
from support.pia import pia_state
from support.sparse_ctrl import random_state

_OUTPUT, _EMBEDDING = "controlnet_down_blocks.3.weight", "controlnet_cond_embedding.weight"
_WIDTH = "down_blocks.0.resnets.0.conv1.weight"


def write_wrong(folder: Path, name: str, state: dict[str, torch.Tensor]) -> Path:
    """The file of this name of `WRONG_FILES`.

    Args:
        state: of a right encoder for images.
    """
    path = folder / WRONG_FILES[name][0]
    WRONG_FILES[name][2](path, dict(state))
    return path


def _changed(**changes):
    """Writes the encoder with some tensors replaced; None: left out."""

    def write(path, state):
        for key, value in changes.items():
            known = key.replace("__", ".")
            if value is None:
                del state[known]
            else:
                state[known] = value(state) if callable(value) else value
        save_file(state, path)

    return write


def _renamed(path, state):
    save_file({key.replace("mid_block.resnets.0.conv1", "mid_block.conv"): each for key, each in state.items()}, path)


def _twice(path, state):
    state["controlnet.conv_in.weight"] = state["conv_in.weight"].clone()
    save_file(state, path)


def _cut(path, state):
    save_file(state, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _as_float(path, state):
    state["conv_in.bias"] = state["conv_in.bias"].to(torch.int32)
    save_file(state, path)


WRONG_FILES = {
    "text": ("text.safetensors", None, lambda path, _: path.write_text("not a model")),
    "empty": ("empty.safetensors", None, lambda path, _: path.write_bytes(b"")),
    "a page": ("page.ckpt", None, lambda path, _: path.write_text("<!DOCTYPE html><html></html>")),
    "a picture": ("picture.ckpt", None, lambda path, _: Image.new("RGB", (9, 9)).save(path, "PNG")),
    "cut short": ("cut.safetensors", None, _cut),
    "a motion module": ("mm.safetensors", "AD-Q10", lambda path, _: write_motion_file(path.parent, name=path.name)),
    "a PIA model": ("pia.safetensors", "AD-Q10", lambda path, _: save_file(pia_state(), path)),
    "a motion LoRA": ("lora.safetensors", "AD-Q10", lambda path, _: write_lora(path)),
    "a domain adapter": (
        "adapter.safetensors",
        "AD-Q10",
        lambda path, _: write_adapter(path, random_adapter(diffusers_layers(diffusers_unet()))),
    ),
    "a ControlNet": (
        "controlnet.safetensors",
        "AD-Q10",
        lambda path, state: save_file({k: v for k, v in state.items() if "motion_modules" not in k}, path),
    ),
    "other weights": ("other.safetensors", "AD-Q10", lambda path, _: save_file({"a": torch.zeros(2)}, path)),
    "no output": ("no_output.safetensors", "AD-Q01", _changed(**{_OUTPUT: None})),
    "no embedding": ("no_embedding.safetensors", "AD-Q01", _changed(**{_EMBEDDING: None})),
    "no motion in a layer": (
        "one_less.safetensors",
        "AD-Q01",
        lambda path, state: save_file(
            {k: v for k, v in state.items() if not k.startswith("down_blocks.1.motion_modules.0")}, path
        ),
    ),
    "one weight too many": ("more.safetensors", "AD-Q01", _changed(further=torch.zeros(3))),
    "another shape": (
        "shape.safetensors",
        "AD-Q01",
        _changed(**{_OUTPUT: lambda state: state[_OUTPUT][:-1].clone()}),
    ),
    "an odd width": ("width.safetensors", "AD-Q01", _changed(**{_WIDTH: lambda state: state[_WIDTH][:-1].clone()})),
    "stored twice": ("twice.safetensors", "AD-Q01", _twice),
    "renamed": ("renamed.safetensors", "AD-Q01", _renamed),
    "whole numbers": ("integers.safetensors", None, _as_float),
}
"""By what is wrong: name of the file, code (None: one of reading files), and what writes it."""


def right_encoder() -> dict[str, torch.Tensor]:
    """The weights of a right encoder for images."""
    return random_state("rgb")
