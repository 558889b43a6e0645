"""What SparseCtrl costs over a whole clip: without its cache, with results of the same steps kept, and against none.

    python -m tools.benchmarks.sparse_ctrl_cost                    # on an idle machine; on a card: --device cuda
    python -m tools.benchmarks.sparse_ctrl_cost --small            # does it run? its figures mean nothing

Stable Diffusion 1.5's UNet (diffusers'), a v3 motion module and an encoder for images at full widths with random
weights. A clip is sampled by Euler steps, 20 of them with CFG, with images at its first and last frame; text encoder
and VAE are not part of it. All run in turn in each round. "kept" is a clip whose timesteps, text and images came
before: a further round of FreeInit, or another seed. "some kept" has a cache of the size that clips get by themselves.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from lib_animatediff import inject
from lib_animatediff.engine.components.sparse_ctrl import (
    GivenFrames,
    ResidualCache,
    SparseCtrlComponent,
    room_for_cache,
)
from motion_module import MotionModule
from motion_module.sparse_ctrl.load import LENGTH
from motion_module.sparse_ctrl.network import RGB, EncoderLayout, SparseCtrl

from .cheaper_steps import CFG_SCALE, NOISIEST, STEPS
from .harness import FEWEST_ROUNDS, compare, conditions, spread
from .peers import motion_of
from .window_memory import SD15_WIDTHS, TEXT, sd15_unet

SMALL_WIDTHS = (32, 64, 64, 64)
FEWEST = 3  # steps of a small trial
MOST = 1.1  # times a plain clip, with all results kept
_LATENT = 8  # image pixels per latent pixel


@dataclass(frozen=True)
class Clip:
    """What is sampled.

    Attributes:
        unet, motion: on the device.
        encoder: of SparseCtrl.
        frames: of the clip.
        side: of the latents.
        given: the frames that the encoder is given.
        steps: of the sampler.
    """

    unet: nn.Module
    motion: MotionModule
    encoder: SparseCtrl
    frames: int
    side: int
    given: GivenFrames
    steps: int = STEPS

    def sampled(self, cache: ResidualCache | None = None, *, is_guided: bool = True) -> Tensor:
        """The latents, ``f c h w``."""
        generator, like = torch.Generator().manual_seed(0), next(self.unet.parameters())
        x = torch.randn(self.frames, 4, self.side, self.side, generator=generator).to(like)
        text = torch.randn(2, 1, *TEXT, generator=generator).to(like).expand(2, self.frames, *TEXT).flatten(0, 1)
        further = [SparseCtrlComponent(self.encoder, self.given, cache=cache)] if is_guided else []
        with torch.no_grad(), inject(self.unet, self.motion, *further, frames=self.frames) as injection:
            for step in range(self.steps):
                timestep = NOISIEST - step * (NOISIEST // self.steps)
                injection.step, injection.progress, injection.timestep = step, step / self.steps, timestep
                uncond, cond = self.unet(torch.cat([x, x]), timestep, encoder_hidden_states=text).sample.chunk(2)
                x = x - (uncond + CFG_SCALE * (cond - uncond)) / self.steps
        return x.cpu()  # waits for the device


def encoder_of(widths: Sequence[int]) -> SparseCtrl:
    """An encoder for images with random weights."""
    layout, generator = EncoderLayout(RGB, tuple(widths), TEXT[1], LENGTH), torch.Generator().manual_seed(1)
    state = {
        name: torch.randn(shape, generator=generator) / math.sqrt(max(math.prod(shape[1:]), 1))
        for name, shape in SparseCtrl.expected_shapes(layout).items()
    }
    return SparseCtrl.from_state_dict(state, layout, "sparsectrl.safetensors").eval().requires_grad_(False)


def main() -> None:
    """Print the table, and whether the bar is met."""
    parser = argparse.ArgumentParser(description="What SparseCtrl costs.")
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--size", type=int, default=256, help="of the image, in pixels")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--small", action="store_true", help="narrow models and small images, to see whether it runs")
    asked = parser.parse_args()
    widths, frames, side = (SMALL_WIDTHS, 4, 8) if asked.small else (SD15_WIDTHS, asked.frames, asked.size // _LATENT)
    steps = FEWEST if asked.small else STEPS
    device = torch.device(asked.device)
    dtype = torch.float32 if device.type == "cpu" else torch.float16
    torch.set_num_threads(1)
    latents = torch.randn(2, 4, side, side, generator=torch.Generator().manual_seed(2))
    clip = Clip(
        sd15_unet(widths, device=asked.device).to(dtype),
        motion_of("v3", widths),
        encoder_of(widths).to(device=device, dtype=dtype),
        frames,
        side,
        GivenFrames([0, frames - 1], latents),
        steps,
    )
    whole, partial = ResidualCache(2**62), ResidualCache(room_for_cache(device))
    ways: dict[str, Callable[[], Tensor]] = {
        "plain": lambda: clip.sampled(is_guided=False),
        "SparseCtrl": clip.sampled,
        "SparseCtrl, some kept": lambda: clip.sampled(partial),
        "SparseCtrl, kept": lambda: clip.sampled(whole),
    }
    print(f"{frames} frames of {side * _LATENT} px, {steps} steps with CFG, {asked.rounds} rounds; {conditions()}\n")
    found = compare(ways, asked.rounds)
    print("| clip | s | times a plain clip |\n|---|---|---|")
    for name in ways:
        print(f"| {name} | {found.median(name):.2f} | {spread(found.ratio(name, 'plain'))} |")
    met = found.ratio("SparseCtrl, kept", "plain")[0] <= MOST
    print(f"\nWith results kept, at most {MOST} times a plain clip: {'yes' if met else 'no'}.")
    print(f"Steps of which all results were kept by themselves: {partial.hits // (asked.rounds)} of {steps}.")


if __name__ == "__main__":
    main()
