"""AnimateLCM-I2V from the facts: random weights, a literal encoder, and a UNet whose layers get its features."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from support.motion_files import SMALL_WIDTHS, Noise, literal_positions, random_motion_state
from support.oracle import LiteralSite, edited
from torch import Tensor, nn

from motion_module import MotionModule
from motion_module.image_encoder.network import ImageEncoder
from motion_module.kinds import I2V
from motion_module.network import Layout


def encoder_shapes(widths: tuple[int, ...] = SMALL_WIDTHS) -> dict[str, tuple[int, ...]]:
    """Names in the file and shapes of the encoder."""
    found: dict[str, tuple[int, ...]] = {"conv_in.weight": (widths[0], 4, 3, 3), "conv_in.bias": widths[:1]}
    for number in range(8):
        c, before = widths[number // 2], widths[max(number - 1, 0) // 2]
        found |= {f"body.{number}.block1.weight": (c, c, 3, 3), f"body.{number}.block1.bias": (c,)}
        found |= {f"body.{number}.block2.weight": (c, c, 1, 1), f"body.{number}.block2.bias": (c,)}
        if c != before:
            found |= {f"body.{number}.in_conv.weight": (c, before, 1, 1), f"body.{number}.in_conv.bias": (c,)}
    return {f"img_encoder.{name}": shape for name, shape in found.items()}


def i2v_state(widths: tuple[int, ...] = SMALL_WIDTHS) -> dict[str, Tensor]:
    """A motion module with a middle block and without tables, and the encoder."""
    noise, state = Noise(6), random_motion_state("lcm", widths, tables=False)
    for name, shape in encoder_shapes(widths).items():
        drawn = noise.of(shape)
        state[name] = drawn * math.prod(shape[1:]) ** -0.5 if len(shape) > 1 else 0.1 * drawn
    return state


def encoder_part(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {n.removeprefix("img_encoder."): t for n, t in state.items() if n.startswith("img_encoder.")}


@cache
def shared_i2v() -> tuple[MotionModule, ImageEncoder, dict[str, Tensor]]:
    """Both parts for `hosts` at small widths, made once, with the weights that they were made from."""
    state, widths = i2v_state(), SMALL_WIDTHS
    own = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    layout = Layout(tuple((w,) * 2 for w in widths), widths[-1], tuple((w,) * 3 for w in reversed(widths)), 64)
    motion = MotionModule.from_state_dict(own, layout, I2V, "i2v.ckpt")
    return motion, ImageEncoder.from_state_dict(encoder_part(state), widths, "i2v.ckpt"), state


def literal_features(state: dict[str, Tensor], image: Tensor, frames: int, drift: float) -> list[Tensor]:
    """The four features of one clip, `f c h w`, frame by frame."""
    state = encoder_part(state)

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    features: list[list[Tensor]] = [[] for _ in range(4)]
    for frame in range(frames):
        x = conv("conv_in", image[None], 1)
        x = x + drift * literal_positions(frames, x.shape[1])[0, frame].to(x)[None, :, None, None]
        for number in range(8):
            if number in (2, 4, 6):
                if x.shape[2] % 2:
                    x = torch.cat([x, x[:, :, -1:]], 2)
                if x.shape[3] % 2:
                    x = torch.cat([x, x[..., -1:]], 3)
                x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
            if f"body.{number}.in_conv.weight" in state:
                x = conv(f"body.{number}.in_conv", x)
            x = x + conv(f"body.{number}.block2", torch.clamp(conv(f"body.{number}.block1", x, 1), min=0))
            if number % 2:
                features[number // 2].append(x[0])
    return [torch.stack(each) for each in features]


class Added(nn.Module):
    """Adds a clip's features to its rows."""

    def __init__(self, feature: Tensor, scales: list[float]) -> None:
        super().__init__()
        self.rows = torch.stack([scale * each for scale, each in zip(scales, feature, strict=True)])

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[first : first + len(self.rows)] + self.rows for first in range(0, len(x), len(self.rows))])


def literal_unet(
    unet: nn.Module, host: str, state: dict[str, Tensor], features: list[Tensor], scales: list[float]
) -> nn.Module:
    """A copy of a UNet with the literal motion module, and features before the second site of each way down."""
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    made = edited(unet, host, motion, len(scales))
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, LiteralSite):
                continue
            path, level, _, number = child.site.split(".")[:4] if child.site.count(".") == 3 else ("", "", "", "")
            if (path, number) == ("down_blocks", "1"):
                setattr(module, name, nn.Sequential(Added(features[int(level)], scales), child))
    return made
