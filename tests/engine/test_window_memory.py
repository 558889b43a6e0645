"""A clip of any length takes the memory of its windows, and little more than its latents on top."""

from __future__ import annotations

import pytest
import torch

from lib_animatediff import ContextWindows
from tools.benchmarks.window_memory import LiveBytes, peak_of_sampling, sd15_unet, v1_motion

LATENT = 4 * 8 * 8 * 4  # bytes of one frame


def test_the_meter_counts_what_lives():
    given = torch.zeros(1000)
    with LiveBytes() as memory:
        kept = given + 1
        view = kept[:10]
        assert memory.live == memory.peak == 4000
        del kept
        assert memory.live == 4000  # the view holds it
        more = torch.cat([given, given])
        del view, more
    assert (memory.live, memory.peak) == (0, 12000)


def test_only_the_doubled_batch_and_the_sums_grow_with_the_clip():
    """Two streams: two latents a frame go into the call, and two come out."""
    widths, windows = (32, 64, 128, 128), ContextWindows(length=4, overlap=1)
    unet, motion = sd15_unet(widths, 64), v1_motion(widths)
    short, long = (peak_of_sampling(unet, motion, frames, windows, text=(7, 64)) for frames in (8, 16))
    assert long - short == pytest.approx(4 * 8 * LATENT, rel=0.02)


@pytest.mark.matrix  # the same is shown above at small widths
def test_two_hundred_frames_take_what_thirty_two_take():
    """At Stable Diffusion 1.5's widths. Shapes only: tools/benchmarks/window_memory.py computes."""
    unet, motion = sd15_unet(device="meta"), v1_motion(device="meta")
    short, long = (
        peak_of_sampling(unet, motion, frames, ContextWindows(), timesteps=(999,), device="meta")
        for frames in (32, 200)
    )
    print(f"32 frames: {short / 2**20:.2f} MiB, 200 frames: {long / 2**20:.2f} MiB")
    assert long <= 1.05 * short
