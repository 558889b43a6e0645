"""Random domain adapters, in the spellings that are about, and where LDM has the layers that they change."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

Changes = dict[str, tuple[Tensor, Tensor]]  # by the layer's name in diffusers: down, up
_LAYER = re.compile(r"attentions\.\d+\.transformer_blocks\.\d+\.attn[12]\.to_(q|k|v|out\.0)$")


def diffusers_layers(unet: Any) -> dict[str, tuple[int, int]]:
    """Name and size, out and in, of each linear layer of spatial attention."""
    return {name: tuple(layer.weight.shape) for name, layer in unet.named_modules() if _LAYER.search(name)}


def random_adapter(layers: dict[str, tuple[int, int]], *, seed: int = 0, rank: int = 3) -> Changes:
    """Changes about as large as the weights."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (
            torch.randn(rank, wide, generator=generator) * wide**-0.5,
            torch.randn(high, rank, generator=generator) * rank**-0.5,
        )
        for name, (high, wide) in layers.items()
    }


def official(layer: str) -> tuple[str, str]:
    attention, _, part = layer.removesuffix(".0").rpartition(".")
    return f"{attention}.processor.{part}_lora.down.weight", f"{attention}.processor.{part}_lora.up.weight"


def kohya(layer: str) -> tuple[str, str]:
    flat = f"lora_unet_{layer.replace('.', '_')}"
    return f"{flat}.lora_down.weight", f"{flat}.lora_up.weight"


def converted_adapter(layer: str) -> tuple[str, str]:
    """As people convert the official file for the WebUI's loader: to_out without the number."""
    down, up = kohya(layer)
    return down.replace("to_out_0", "to_out"), up.replace("to_out_0", "to_out")


def peft(layer: str) -> tuple[str, str]:
    return f"base_model.model.{layer}.lora_A.default.weight", f"base_model.model.{layer}.lora_B.default.weight"


SPELLINGS = [official, kohya, converted_adapter, peft]


def write_adapter(
    path: Path,
    changes: Changes,
    spelling: Callable[[str], tuple[str, str]] = official,
    more: dict[str, Tensor] | None = None,
) -> Path:
    """A safetensors file with them."""
    state = {name: t for layer, pair in changes.items() for name, t in zip(spelling(layer), pair, strict=True)}
    save_file(state | (more or {}), path)
    return path


def ldm_name(layer: str, unet: Any) -> str:
    """Where LDM has a layer: two blocks and a downsample in each level down, three blocks in each level up."""
    path, _, rest = layer.partition(".attentions.")
    index, _, rest = rest.partition(".")
    if path == "mid_block":
        return f"middle_block.1.{rest}"
    side, level = path.split(".")
    if side == "down_blocks":
        return f"input_blocks.{1 + 3 * int(level) + int(index)}.1.{rest}"
    return f"output_blocks.{3 * int(level) + int(index)}.1.{rest}"
