"""Small random control models in the formats of their publishers, and what they compute, written out by hand."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from support import hosts
from torch import Tensor, nn
from torch.nn import functional as F

_HINT = ((3, 16, 1), (16, 16, 1), (16, 32, 2), (32, 32, 1), (32, 96, 2), (96, 96, 1), (96, 256, 2))
_RES_BLOCKS = 2  # of a T2I adapter at each resolution
POCKET = {"attention_resolutions": [4, 2, 1], "channel_mult": [1, 1, 1, 1], "num_heads": 4}


def pocket_encoder() -> nn.Module:
    """LDM's UNet in the widths of the built-in model."""
    torch.manual_seed(5)
    return hosts.no_zero_weights(hosts.new_ldm_unet(64, 64, **POCKET))


def controlnet_state(unet: nn.Module, seed: int = 0, gain: float = 1.0) -> dict[str, Tensor]:
    """A ControlNet for a UNet of LDM, under the names of ControlNet 1.1's files."""
    generator = torch.Generator().manual_seed(seed)
    encoder = ("time_embed.", "input_blocks.", "middle_block.")
    state = {name: weight.clone() for name, weight in unet.state_dict().items() if name.startswith(encoder)}

    def conv(name: str, inputs: int, outputs: int, side: int, gain: float = 1.0) -> None:
        scale = gain / math.sqrt(inputs * side * side)
        state[f"{name}.weight"] = torch.randn(outputs, inputs, side, side, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    width = unet.model_channels
    for number, (inputs, outputs, _) in enumerate((*_HINT, (256, width, 1))):
        conv(f"input_hint_block.{2 * number}", inputs, outputs, 3, gain=2.0)
    widths = [_width_of(block) for block in unet.input_blocks]
    for number, made in enumerate(width if one is None else one for one in _filled(widths, width)):
        conv(f"zero_convs.{number}.0", made, made, 1, gain)
    conv("middle_block_out.0", widths[-1], widths[-1], 1, gain)
    return state


def _width_of(block: nn.Module) -> int | None:
    return next((layer.out_channels for layer in block if hasattr(layer, "out_channels")), None)


def _filled(widths: list[int | None], first: int) -> list[int]:
    made, last = [], first
    for width in widths:
        last = width or last
        made.append(last)
    return made


def literal_controlnet(
    unet: nn.Module, state: dict[str, Tensor], given: dict[str, Tensor], hints: Tensor
) -> tuple[list[Tensor], Tensor]:
    """What it adds to skips and middle, by LDM's blocks with its weights: those of the UNet itself."""
    from ldm.modules.diffusionmodules.util import timestep_embedding

    guided = hints
    for number, (_, _, stride) in enumerate(_HINT):
        guided = F.silu(_conv(state, f"input_hint_block.{2 * number}", guided, stride=stride, padding=1))
    guided = _conv(state, "input_hint_block.14", guided, padding=1)
    emb = unet.time_embed(timestep_embedding(given["t"], unet.model_channels, repeat_only=False))
    h, added = given["x"], []
    for number, block in enumerate(unet.input_blocks):
        h = block(h, emb, given["context"])
        if number == 0:
            h = h + guided
        added.append(_conv(state, f"zero_convs.{number}.0", h))
    return added, _conv(state, "middle_block_out.0", unet.middle_block(h, emb, given["context"]))


def t2i_state(widths: tuple[int, ...], colours: int = 3, seed: int = 0) -> dict[str, Tensor]:
    """A T2I adapter under the names of its publishers' files."""
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}

    def conv(name: str, inputs: int, outputs: int, side: int) -> None:
        scale = 1 / math.sqrt(inputs * side * side)
        state[f"{name}.weight"] = torch.randn(outputs, inputs, side, side, generator=generator) * scale
        state[f"{name}.bias"] = torch.randn(outputs, generator=generator) * 0.1

    conv("conv_in", 64 * colours, widths[0], 3)
    last = widths[0]
    for number in range(_RES_BLOCKS * len(widths)):
        width = widths[number // _RES_BLOCKS]
        if width != last:
            conv(f"body.{number}.in_conv", last, width, 1)
        conv(f"body.{number}.block1", width, width, 3)
        conv(f"body.{number}.block2", width, width, 1)
        last = width
    return state


def literal_t2i(state: dict[str, Tensor], hints: Tensor) -> list[Tensor]:
    """Its feature at each resolution."""
    h, made = _conv(state, "conv_in", F.pixel_unshuffle(hints, 8), padding=1), []
    number = 0
    while f"body.{number}.block1.weight" in state:
        if number and number % _RES_BLOCKS == 0:
            h = F.avg_pool2d(h, 2, ceil_mode=True)
        if f"body.{number}.in_conv.weight" in state:
            h = _conv(state, f"body.{number}.in_conv", h)
        h = h + _conv(state, f"body.{number}.block2", F.relu(_conv(state, f"body.{number}.block1", h, padding=1)))
        if number % _RES_BLOCKS == _RES_BLOCKS - 1:
            made.append(h)
        number += 1
    return made


def _conv(state: dict[str, Tensor], name: str, x: Tensor, **options: Any) -> Tensor:
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def write(path: Path, state: dict[str, Tensor], wrapped: str = "") -> Path:
    """A file, safetensors or a pickle by its suffix, with another name in front of each weight's."""
    named = {f"{wrapped}{name}": weight.contiguous() for name, weight in state.items()}
    if path.suffix == ".safetensors":
        save_file(named, path)
    else:
        torch.save(named, path)
    return path


def write_pocket_controlnet(path: Path, gain: float = 1.0) -> Path:
    """A ControlNet for the built-in model, in LDM's names."""
    return write(path, controlnet_state(pocket_encoder(), gain=gain))
