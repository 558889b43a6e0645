"""What motion costs in time, beside other programs.

    python -m tools.benchmarks.motion_speed --frames 8 16
    python -m tools.benchmarks.motion_speed --frames 8 16 --threads 2
    python -m tools.benchmarks.motion_speed --kind v1 v3 --frames 8 --alone
    python -m tools.benchmarks.motion_speed --frames 8 --whole

*Motion only*: what is hooked to the sites' layers is called, one site after the other, on inputs of their sizes. There
is no UNet between, so that two nearly equal times need not be subtracted. ``--whole`` also measures calls of Stable
Diffusion 1.5's UNet (diffusers'). Full widths, random weights, float32, one stream. `peers` says who the others are.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff import inject
from lib_animatediff.engine.unet import find_sites
from motion_module import MotionModule
from motion_module.kinds import KINDS

from .harness import compare, conditions, spread
from .peers import bare_products, hooked, motion_of, of_peers
from .window_memory import TEXT, sd15_unet

TIMESTEP = 500


def inputs_of(unet: nn.Module, call: Callable[[], object]) -> dict[str, Tensor]:
    """Random activations in the sizes that the sites have in a call, which may be of a UNet without numbers."""
    shapes: dict[str, torch.Size] = {}

    def noted(name: str) -> Callable[[Tensor], Tensor]:
        def note(x: Tensor) -> Tensor:
            shapes[name] = x.shape
            return x

        return note

    with hooked(unet, noted):
        call()
    return {name: torch.randn(shape) for name, shape in shapes.items()}


def in_turn(
    unet: nn.Module, attached: AbstractContextManager[object], inputs: Mapping[str, Tensor], undo: ExitStack
) -> Callable[[], list[Tensor]]:
    """What calls all that a context hooks to the sites' layers, one after the other.

    Args:
        unet: its layers are never called.
        attached: hooks something to the layers of ``unet``.
        inputs: of each site.
        undo: ends the context.
    """
    sites = find_sites(unet) or []
    known = [set(site.layer._forward_hooks) for site in sites]
    undo.enter_context(attached)
    hooks = [
        (site.layer, hook, inputs[site.name])
        for site, former in zip(sites, known, strict=True)
        for number, hook in site.layer._forward_hooks.items()
        if number not in former
    ]
    return lambda: [hook(layer, (), x) for layer, hook, x in hooks]


def measure_motion(kind: str, frames: int, pixels: int, rounds: int, *, alone: bool) -> None:
    """Print one table of motion only."""
    torch.manual_seed(0)
    unet, motion = sd15_unet(device="meta"), motion_of(kind)
    shaped = {"sample": torch.empty(frames, 4, pixels // 8, pixels // 8, device="meta"), "timestep": TIMESTEP}
    text = torch.empty(frames, *TEXT, device="meta")
    inputs = inputs_of(unet, lambda: unet(**shaped, encoder_hidden_states=text))
    with ExitStack() as undo:
        things = {"ours": in_turn(unet, inject(unet, motion, frames=frames), inputs, undo)}
        for name, peer in ({} if alone else of_peers(motion, frames)).items():
            things[name] = in_turn(unet, hooked(unet, peer), inputs, undo)
        _say_differences(things)
        found = compare({**things, "bare": bare_products(motion, inputs)}, rounds)
    print(f"\n{kind}, {len(inputs)} sites, {frames} frames of {pixels} px, {rounds} rounds; {conditions()}\n")
    print("| motion only | s | relative to bare | relative to ours |\n|---|---|---|---|")
    for name in things:
        ratios = " | ".join(spread(found.ratio(name, base)) for base in ("bare", "ours"))
        print(f"| {name} | {found.median(name):.2f} | {ratios} |")
    print(f"| bare products | {found.median('bare'):.2f} | 1 | | |", flush=True)


def _say_differences(things: Mapping[str, Callable[[], list[Tensor]]]) -> None:
    wanted = things["ours"]()
    for name in list(things)[1:]:
        difference = max(float((a - b).abs().max()) for a, b in zip(things[name](), wanted, strict=True))
        print(f"{name} differs from ours by {difference:.1e} at most", file=sys.stderr)


def whole_calls(unet: nn.Module, motion: MotionModule, frames: int, call: Callable[[], Tensor], *, alone: bool) -> Any:
    """Calls of a UNet: plain, with our motion, and with that of each peer."""

    def within(attached: Callable[[], AbstractContextManager[object]]) -> Callable[[], Tensor]:
        def run() -> Tensor:
            with attached():
                return call()

        return run

    things = {"plain": call, "ours": within(lambda: inject(unet, motion, frames=frames))}
    for name, peer in ({} if alone else of_peers(motion, frames)).items():
        things[name] = within(lambda peer=peer: hooked(unet, peer))  # type: ignore[misc]
    return things


def measure_whole(kind: str, frames: int, pixels: int, rounds: int, *, alone: bool) -> None:
    """Print one table of whole calls."""
    torch.manual_seed(0)
    unet, motion = sd15_unet(), motion_of(kind)
    rows, text = torch.randn(frames, 4, pixels // 8, pixels // 8), torch.randn(frames, *TEXT)
    things = whole_calls(
        unet, motion, frames, lambda: unet(rows, TIMESTEP, encoder_hidden_states=text).sample, alone=alone
    )
    found = compare(things, rounds)
    print("\n| whole call | s | relative to plain | relative to ours |\n|---|---|---|---|")
    for name in things:
        ratios = " | ".join(spread(found.ratio(name, base)) for base in ("plain", "ours"))
        print(f"| {name} | {found.median(name):.2f} | {ratios} |", flush=True)


def main() -> None:
    """Print a table for each number of frames."""
    parser = argparse.ArgumentParser(description="What motion costs in time, beside other programs.")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument(
        "--kind", choices=[name for name in KINDS if KINDS[name].base == "sd15"], nargs="+", default=["v2"]
    )
    parser.add_argument("--alone", action="store_true", help="without the peers")
    parser.add_argument("--whole", action="store_true", help="whole calls of the UNet, too")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    with torch.no_grad():
        for kind, frames in itertools.product(asked.kind, asked.frames):
            measure_motion(kind, frames, asked.pixels, asked.rounds, alone=asked.alone)
            if asked.whole:
                measure_whole(kind, frames, asked.pixels, asked.rounds, alone=asked.alone)


if __name__ == "__main__":
    main()
