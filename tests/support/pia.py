"""PIA models from the facts: random weights, and a UNet whose first convolution has nine channels."""

from __future__ import annotations

from copy import deepcopy

import torch
from support.motion_files import SMALL_WIDTHS, random_motion_state
from support.oracle import edited
from torch import Tensor, nn

from motion_module import MotionModule
from motion_module.kinds import PIA
from motion_module.network import Layout


def pia_state(widths: tuple[int, ...] = SMALL_WIDTHS, *, tables: bool = False, gain: float = 1.0) -> dict[str, Tensor]:
    """A motion module without a middle block, and the convolution of nine channels."""
    generator = torch.Generator().manual_seed(9)
    state = random_motion_state("v3", widths, tables=tables)
    weight = gain * torch.randn(widths[0], 9, 3, 3, generator=generator) / 9
    return {**state, "conv_in.weight": weight, "conv_in.bias": torch.randn(widths[0], generator=generator)}


def pia_motion(state: dict[str, Tensor], widths: tuple[int, ...] = SMALL_WIDTHS) -> MotionModule:
    """The motion module of such a state."""
    own = {name: tensor for name, tensor in state.items() if "motion_modules" in name and not name.endswith(".pe")}
    layout = Layout(tuple((w,) * 2 for w in widths), None, tuple((w,) * 3 for w in reversed(widths)), 32)
    return MotionModule.from_state_dict(own, layout, PIA, "pia.ckpt")


def widened(convolution: nn.Conv2d, weight: Tensor) -> nn.Conv2d:
    """The checkpoint's own four channels and bias, and five further channels of PIA's."""
    made = nn.Conv2d(9, convolution.out_channels, 3, padding=1, dtype=convolution.weight.dtype).requires_grad_(False)
    made.weight.copy_(torch.cat([convolution.weight, weight[:, 4:]], dim=1))
    made.bias.copy_(convolution.bias)
    return made


def literal_unet(unet: nn.Module, host: str, state: dict[str, Tensor], frames: int) -> nn.Module:
    """A copy of a UNet with the literal motion module, norms over all frames, and nine channels."""
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name and not name.endswith(".pe")}
    made = edited(deepcopy(unet), host, motion, frames, shared_resnet_norms=True)
    if host == "ldm":
        made.input_blocks[0][0] = widened(made.input_blocks[0][0], state["conv_in.weight"])
    else:
        made.conv_in = widened(made.conv_in, state["conv_in.weight"])
    return made


def with_image(given: dict[str, Tensor], image: Tensor, affinity: list[float]) -> dict[str, Tensor]:
    """Inputs of nine channels: latents, mask, image, row by row."""
    rows = []
    for row, latent in enumerate(given["x"]):
        mask = torch.full_like(latent[:1], affinity[row % len(affinity)])
        rows.append(torch.cat([latent, mask, image]))
    return {**given, "x": torch.stack(rows)}
