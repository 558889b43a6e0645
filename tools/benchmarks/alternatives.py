"""What each way of computing a temporal transformer is worth by itself: all of it as it is, but for one thing.

    python -m tools.benchmarks.alternatives
    python -m tools.benchmarks.alternatives --compiled    # with torch.compile, which needs a C++ compiler

All sites of a v2 motion module for Stable Diffusion 1.5 at 256 px, float32, random weights; the times of the sizes are
added up by how many sites have each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from motion_module import temporal_transformer
from motion_module.temporal_transformer import GEGLU, HEADS, TemporalAttention, TemporalTransformer

from .harness import FEWEST_ROUNDS, Rounds, compare, conditions, spread

SITES = ((320, 32, 5), (640, 16, 5), (1280, 8, 5), (1280, 4, 6))  # channels, side of the latents, how many
TABLE_LENGTH = 32

Run = Callable[[], object]


def fused_qkv(self: TemporalAttention, x: Tensor, onto: Tensor, _scale: float = 1.0) -> Tensor:
    """Queries, keys and values as one product of weights that lie one under the other."""
    x += self.pe[0, : x.shape[1], None]
    if not hasattr(self, "_fused"):
        self._fused = torch.cat([self.to_q.weight, self.to_k.weight, self.to_v.weight])
    return _finish(self, F.linear(x, self._fused).chunk(3, dim=-1), onto)


def folded_table(self: TemporalAttention, x: Tensor, onto: Tensor, _scale: float = 1.0) -> Tensor:
    """The positional table times each weight, added to the products."""
    table = self.pe[0, : x.shape[1]]
    if not hasattr(self, "_folded"):
        self._folded = [F.linear(table, layer.weight)[:, None] for layer in (self.to_q, self.to_k, self.to_v)]
    layers = zip((self.to_q, self.to_k, self.to_v), self._folded, strict=True)
    return _finish(self, tuple(layer(x).add_(added) for layer, added in layers), onto)


def _finish(self: TemporalAttention, tokens: tuple[Tensor, ...], onto: Tensor) -> Tensor:
    attended = [temporal_transformer._attended(*clip) for clip in zip(*tokens, strict=True)]
    joined = rearrange(torch.stack(attended), "b f d a e -> b f d (a e)")
    return temporal_transformer._added(onto, self.to_out[0], joined)


def one_product(self: GEGLU, x: Tensor) -> Tensor:
    """Value and gate as halves of one product."""
    value, gate = self.proj(x).chunk(2, dim=-1)
    return F.gelu(gate).mul_(value)


def out_of_place(onto: Tensor, layer: nn.Module, x: Tensor) -> Tensor:
    """The product first, then the sum."""
    return onto + layer(x)  # type: ignore[no-any-return]


def frames_inside(self: TemporalAttention, x: Tensor, onto: Tensor, _scale: float = 1.0) -> Tensor:
    """Tokens turned round, so that the frames of a position lie side by side for the attention, and back."""
    x += self.pe[0, : x.shape[1], None]
    q, k, v = (
        rearrange(layer(x), "b f d (a e) -> (b d) a f e", a=HEADS).contiguous()
        for layer in (self.to_q, self.to_k, self.to_v)
    )
    attended = F.scaled_dot_product_attention(q, k, v)
    return temporal_transformer._added(
        onto, self.to_out[0], rearrange(attended, "(b d) a f e -> b f d (a e)", b=len(x)).contiguous()
    )


ALTERNATIVES: dict[str, tuple[tuple[object, str, object], ...]] = {
    "queries, keys and values as one product": ((TemporalAttention, "forward", fused_qkv),),
    "positional table folded into a bias": ((TemporalAttention, "forward", folded_table),),
    "tokens transposed for the attention": ((TemporalAttention, "forward", frames_inside),),
    "residuals added after the product": ((temporal_transformer, "_added", out_of_place),),
    "value and gate as one product": ((GEGLU, "forward", one_product),),
    "feed-forward in one piece": ((temporal_transformer, "CPU_ROWS", sys.maxsize),),
    "feed-forward in chunks of 256 tokens": ((temporal_transformer, "CPU_ROWS", 256),),
    "all positions in one piece": ((temporal_transformer, "CPU_PIECE", sys.maxsize),),
    "both in one piece": (
        (temporal_transformer, "CPU_ROWS", sys.maxsize),
        (temporal_transformer, "CPU_PIECE", sys.maxsize),
    ),
}


@contextmanager
def instead(changes: tuple[tuple[object, str, object], ...]) -> Iterator[None]:
    """For the time of the block, other attributes."""
    with ExitStack() as undo:
        for change in changes:
            undo.enter_context(patch.object(*change))
        yield


def things(frames: int, channels: int, side: int, *, compiled: bool) -> dict[str, Run]:
    """What is compared at one size."""
    transformer = TemporalTransformer(channels, TABLE_LENGTH).eval().requires_grad_(False)
    x = torch.randn(frames, channels, side, side)
    last = x.to(memory_format=torch.channels_last)

    def with_(changes: tuple[tuple[object, str, object], ...]) -> Run:
        def run() -> None:
            with instead(changes):
                transformer(x, frames)

        return run

    found: dict[str, Run] = {"as it is": lambda: transformer(x, frames)}
    found |= {name: with_(changes) for name, changes in ALTERNATIVES.items()}
    found["a UNet in channels_last"] = lambda: transformer(last, frames)
    if compiled:
        faster = torch.compile(transformer)
        found["torch.compile"] = lambda: faster(x, frames)
    return found


def main() -> None:
    """Print a table for each number of frames."""
    parser = argparse.ArgumentParser(description="Ways of computing a temporal transformer, beside each other.")
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16])
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--compiled", action="store_true")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print(f"{asked.rounds} rounds; {conditions()}")
    with torch.no_grad():
        for frames in asked.frames:
            sums: dict[str, list[float]] = {}
            for channels, side, count in SITES:
                found = compare(things(frames, channels, side, compiled=asked.compiled), asked.rounds)
                for name, seconds in found.seconds.items():
                    former = sums.get(name, [0.0] * asked.rounds)
                    sums[name] = [total + count * each for total, each in zip(former, seconds, strict=True)]
            total = Rounds(sums)
            print(f"\n| {frames} frames | relative to the current code |\n|---|---|")
            for name in list(sums)[1:]:
                print(f"| {name} | {spread(total.ratio(name, 'as it is'))} |", flush=True)


if __name__ == "__main__":
    main()
