"""What a clip's length costs: time and peak memory of a call in context windows, and time of the temporal attention.

    python -m tools.benchmarks.clip_length

Stable Diffusion 1.5's UNet (diffusers') with a fifth of its widths, 128 px, one stream, windows of 16 frames that
overlap by 4; the motion module's own time at full widths, at the largest site of 256 px.
"""

from __future__ import annotations

import argparse

import torch

from lib_animatediff import ContextWindows, inject
from motion_module.temporal_transformer import TemporalTransformer

from .harness import FEWEST_ROUNDS, compare, conditions, spread
from .window_memory import SD15_WIDTHS, TEXT, LiveBytes, sd15_unet, v1_motion

SIDE, SIDE_OF_SITE = 16, 32  # of the latents
WIDTHS = tuple(width // 5 for width in SD15_WIDTHS)
WINDOWS = ContextWindows(length=16, overlap=4, kind="static")


def against_length(lengths: list[int], rounds: int) -> None:
    """Time and peak of one call of the UNet on clips of so many frames."""
    torch.manual_seed(0)
    unet, motion = sd15_unet(WIDTHS), v1_motion(WIDTHS)

    def call(frames: int) -> int:
        with LiveBytes() as memory, inject(unet, motion, frames=frames, windows=WINDOWS):
            rows, text = torch.randn(frames, 4, SIDE, SIDE), torch.randn(1, *TEXT).expand(frames, -1, -1)
            unet(rows, 500, encoder_hidden_states=text)
        return memory.peak - 3 * rows.nbytes - text.untyped_storage().nbytes()  # in, out and its sum

    peaks = {frames: call(frames) for frames in lengths}

    def timed(frames: int) -> None:
        with inject(unet, motion, frames=frames, windows=WINDOWS):
            text = torch.randn(1, *TEXT).expand(frames, -1, -1)
            unet(torch.randn(frames, 4, SIDE, SIDE), 500, encoder_hidden_states=text)

    found = compare({str(frames): lambda frames=frames: timed(frames) for frames in lengths}, rounds)
    first = lengths[0]
    print("| frames | windows | s | time per window, relative | peak MiB | peak, relative |")
    print("|---|---|---|---|---|---|")
    for frames in lengths:
        windows = len(WINDOWS.plan(frames, 0))
        per_window = len(WINDOWS.plan(first, 0)) / windows
        ratio = spread(tuple(per_window * each for each in found.ratio(str(frames), str(first))))  # type: ignore[arg-type]
        peak, gain = peaks[frames] / 2**20, peaks[frames] / peaks[first] - 1
        print(f"| {frames} | {windows} | {found.median(str(frames)):.2f} | {ratio} | {peak:.2f} | {gain:+.2%} |")


def against_frames(frames: list[int], rounds: int) -> None:
    """Time per frame in the temporal transformer of the largest site, with more frames that see each other."""
    channels = SD15_WIDTHS[0]
    transformer = TemporalTransformer(channels, max(frames)).eval().requires_grad_(False)
    rows = {count: torch.randn(count, channels, SIDE_OF_SITE, SIDE_OF_SITE) for count in frames}
    found = compare({str(n): lambda n=n: transformer(rows[n], n) for n in frames}, rounds)
    print("| frames | ms per frame | relative to 8 frames |")
    print("|---|---|---|")
    for count in frames:
        ratio = spread(tuple(frames[0] / count * each for each in found.ratio(str(count), str(frames[0]))))  # type: ignore[arg-type]
        print(f"| {count} | {1000 * found.median(str(count)) / count:.1f} | {ratio} |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="Cost against the clip's length.")
    parser.add_argument("--lengths", type=int, nargs="+", default=[28, 52, 100, 196])
    parser.add_argument("--frames", type=int, nargs="+", default=[8, 16, 24, 32])
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{asked.rounds} rounds; {conditions()}\n")
    with torch.no_grad():
        against_length(asked.lengths, asked.rounds)
        print()
        against_frames(asked.frames, asked.rounds)


if __name__ == "__main__":
    main()
