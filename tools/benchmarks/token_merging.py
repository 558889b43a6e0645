"""What token merging could save at most: spatial self-attention on a half of the tokens, with matching for nothing.

    python -m tools.benchmarks.token_merging

Token merging (ToMe, arXiv 2303.17604) lets self-attention at the finest resolution see fewer tokens. Over time, one
merge map would serve all frames of a window. Here every second token stands in for its neighbour, without any search
for similar ones and without anything that a map costs: real merging is slower, and no better than this. Stable
Diffusion 1.5's UNet (diffusers') with a v2 motion module at full widths, random weights, float32.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import Tensor, nn

from lib_animatediff import inject

from .harness import FEWEST_ROUNDS, compare, conditions, spread
from .motion_speed import TIMESTEP
from .peers import motion_of
from .window_memory import SD15_WIDTHS, TEXT, sd15_unet

FINEST = SD15_WIDTHS[0]


@contextmanager
def halved(unet: nn.Module) -> Iterator[None]:
    """Self-attention at the finest resolution on every second token, whose output its neighbour gets, too."""
    layers = [
        layer
        for name, layer in unet.named_modules()
        if name.endswith(".attn1") and layer.to_q.in_features == FINEST  # type: ignore[union-attr]
    ]

    def on_half(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def run(tokens: Tensor, *given: object, **more: object) -> Tensor:
            return forward(tokens[:, ::2], *given, **more).repeat_interleave(2, dim=1)

        return run

    patches = [patch.object(layer, "forward", on_half(layer.forward)) for layer in layers]
    try:
        for each in patches:
            each.start()
        yield
    finally:
        for each in patches:
            each.stop()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="The most that token merging could save.")
    parser.add_argument("--frames", type=int, default=2)
    parser.add_argument("--pixels", type=int, nargs="+", default=[256, 512])
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    unet, motion = sd15_unet(), motion_of("v2")
    print(f"{asked.frames} frames, {asked.rounds} rounds; {conditions()}\n")
    print("| px | call on a half of the tokens |\n|---|---|")
    for pixels in asked.pixels:
        rows = torch.randn(asked.frames, 4, pixels // 8, pixels // 8)
        text = torch.randn(asked.frames, *TEXT)

        def call(rows: Tensor = rows, text: Tensor = text) -> Tensor:
            return unet(rows, TIMESTEP, encoder_hidden_states=text).sample  # type: ignore[no-any-return]

        def merged(call: Callable[[], Tensor] = call) -> Tensor:
            with halved(unet):
                return call()

        with torch.no_grad(), inject(unet, motion, frames=asked.frames):
            found = compare({"as it is": call, "merged": merged}, asked.rounds)
        print(f"| {pixels} | {spread(found.ratio('merged', 'as it is'))} |", flush=True)


if __name__ == "__main__":
    main()
