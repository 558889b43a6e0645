"""What cheaper steps save: a whole clip in context windows, with feature reuse, and with CFG in a part of the steps.

    python -m tools.benchmarks.cheaper_steps

Stable Diffusion 1.5's UNet (diffusers') and a v2 motion module at full widths, random weights, float32. A clip is
sampled by Euler steps from noise, 20 of them with CFG, in windows that overlap by a quarter; text encoder and VAE are
not part of it. All ways run in turn in each round. At the default size a round takes many minutes on one core.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_animatediff import ContextWindows, inject
from lib_animatediff.engine.reuse.schedule import FeatureReuse
from lib_animatediff.sampling.guidance import GuidanceInterval
from motion_module import MotionModule

from .harness import FEWEST_ROUNDS, compare, conditions, spread
from .peers import motion_of
from .window_memory import SD15_WIDTHS, TEXT, sd15_unet

CFG_SCALE = 7.5
NOISIEST = 999
STEPS, SLOW_STEPS, FAST_STEPS = 20, 25, 6  # of a clip; of the usual one beside a few-step module's


@dataclass(frozen=True)
class Way:
    """How a clip is sampled."""

    reuse: FeatureReuse | None = None
    guidance: GuidanceInterval = GuidanceInterval()  # noqa: RUF009 - frozen
    steps: int = STEPS
    has_uncond: bool = True


WAYS = {
    "all steps full, with CFG": Way(),
    "reuse 2": Way(FeatureReuse(2)),
    "reuse 3": Way(FeatureReuse(3)),
    "reuse 5": Way(FeatureReuse(5)),
    "reuse 2, branch 1": Way(FeatureReuse(2, 1)),
    "guidance_end 0.6": Way(guidance=GuidanceInterval(end=0.6)),
    "reuse 2, guidance_end 0.6": Way(FeatureReuse(2), GuidanceInterval(end=0.6)),
}
FAST = {"25 steps with CFG": Way(steps=SLOW_STEPS), "6 steps without CFG": Way(steps=FAST_STEPS, has_uncond=False)}


def sampled(unet: nn.Module, motion: MotionModule, way: Way, frames: int, length: int, side: int) -> Tensor:
    """The latents of a clip, ``f c h w``."""
    generator, like = torch.Generator().manual_seed(0), next(unet.parameters())
    x = torch.randn(frames, 4, side, side, generator=generator).to(like)
    text = torch.randn(2, 1, *TEXT, generator=generator).to(like).expand(2, frames, *TEXT)
    windows = ContextWindows(length=length, overlap=length // 4)
    is_on = way.has_uncond
    with torch.no_grad(), inject(unet, motion, frames=frames, windows=windows, reuse=way.reuse) as injection:
        injection.begin_run(way.steps)
        for step in range(way.steps):
            injection.step, injection.progress = step, step / way.steps
            is_guided = way.has_uncond and way.guidance.is_guided(step / way.steps)
            if is_guided != is_on:
                injection.drop_features()
                is_on = is_guided
            rows = torch.cat([x, x]) if is_guided else x
            context = text.flatten(0, 1) if is_guided else text[1]
            noise = unet(rows, NOISIEST - step * (NOISIEST // way.steps), encoder_hidden_states=context).sample
            if is_guided:
                uncond, cond = noise.chunk(2)
                noise = uncond + CFG_SCALE * (cond - uncond)
            x = x - noise / way.steps
    return x


def table(names: list[str], asked: argparse.Namespace) -> None:
    """Times of these ways; the first is the base."""
    unet, motion = sd15_unet(asked.widths), motion_of("v2", asked.widths)
    ways = {**WAYS, **FAST}

    def clip(name: str) -> Callable[[], Tensor]:
        return lambda: sampled(unet, motion, ways[name], asked.frames, asked.length, asked.size // 8)

    found = compare({name: clip(name) for name in names}, asked.rounds)
    base = names[0]
    print("| clip | s | time, relative | times faster |\n|---|---|---|---|")
    for name in names:
        faster = spread(found.ratio(base, name))
        print(f"| {name} | {found.median(name):.1f} | {spread(found.ratio(name, base))} | {faster} |", flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Cheaper steps over a whole clip.")
    parser.add_argument("--frames", type=int, default=14)
    parser.add_argument("--length", type=int, default=8, help="frames of a window")
    parser.add_argument("--size", type=int, default=128, help="of the image, in pixels")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--widths", type=int, nargs=4, default=SD15_WIDTHS, help="of the UNet, for a quick look")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--fast", action="store_true", help="25 steps with CFG beside 6 without, instead")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{asked.frames} frames of {asked.size} px, windows of {asked.length}, {asked.rounds} rounds; {conditions()}\n"
    )
    table(list(FAST) if asked.fast else asked.ways, asked)


if __name__ == "__main__":
    main()
