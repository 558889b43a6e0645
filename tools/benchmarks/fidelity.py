"""How far an injected UNet is from the literal oracle of the tests: every kind, host and dtype, as a Markdown table.

    python -m tools.benchmarks.fidelity

Small widths, random weights, two streams of one clip of 16 frames. float32: largest difference. bfloat16 and float16:
mean difference from float32 over its mean size, beside what rounding one number costs (0.8 % and 0.1 %).
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import hosts
from motions import OFFICIAL, SD15_KINDS, random_motion
from oracle import edited

from lib_animatediff import inject
from motion_module import MotionModule

FRAMES, STREAMS = 16, 2
LOW = (torch.bfloat16, torch.float16)


def new_unet(kind: str, host: str) -> nn.Module:
    """The host's UNet for the kind's base."""
    torch.manual_seed(0)
    return (hosts.HOSTS if kind in SD15_KINDS else hosts.SDXL_HOSTS)[host]()


def injected(unet: nn.Module, motion: MotionModule, given: dict[str, Tensor]) -> Tensor:
    """One call of the UNet with the motion module in it."""
    with inject(unet, motion, frames=FRAMES):
        return hosts.call(unet, given)


def in_half_precision(
    unet: nn.Module, host: str, motion: MotionModule, given: dict[str, Tensor], dtype: torch.dtype
) -> Tensor:
    """The same as the host runs it: LDM under autocast, diffusers with its weights converted."""
    low = {name: value.to(dtype) if value.is_floating_point() else value for name, value in given.items()}
    if host == "diffusers":
        unet = copy.deepcopy(unet).to(dtype)
    with torch.autocast("cpu", dtype=dtype) if host == "ldm" else nullcontext():
        return injected(unet, motion, low)


def rows() -> Iterator[str]:
    """The table's lines."""
    yield "| kind | host | float32, largest | output's size (std) | bfloat16, mean | float16, mean |"
    yield "|---|---|---|---|---|---|"
    for kind, facts in OFFICIAL.items():
        for host in hosts.HOSTS:
            unet, (motion, state) = new_unet(kind, host), random_motion(kind)
            given = hosts.inputs(STREAMS * FRAMES)
            exact = injected(unet, motion, given)
            wanted = hosts.call(edited(unet, host, state, FRAMES, **facts.norms), given)
            low = [in_half_precision(unet, host, motion, given, dtype).float() for dtype in LOW]
            errors = [float((each - exact).abs().mean() / exact.abs().mean()) for each in low]
            cells = [f"{float((exact - wanted).abs().max()):.1e}", f"{float(wanted.std()):.2f}"]
            yield f"| {kind} | {host} | {' | '.join([*cells, *(f'{100 * error:.2f} %' for error in errors)])} |"


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    for line in rows():
        print(line, flush=True)
