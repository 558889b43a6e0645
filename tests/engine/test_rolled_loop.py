"""A closed loop that fits into one window: at each step the clip begins at another frame for the motion module."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from support.pocket_clips import near

from lib_animatediff import ContextWindows
from motion_module.options import TemporalOptions
from motion_module.temporal_transformer import TemporalTransformer

CLOSED = ContextWindows(kind="looped", closed=True)
OPEN = (ContextWindows(), ContextWindows(kind="looped"), ContextWindows(kind="static"))


def starts(frames: int, steps: int) -> list[int]:
    windows = [window for step in range(steps) for window in CLOSED.plan(frames, step)]
    assert len(windows) == steps
    assert all(window == tuple((window[0] + i) % frames for i in range(frames)) for window in windows)
    return [window[0] for window in windows]


@pytest.mark.parametrize("frames", range(1, 17))
def test_every_frame_begins_the_window_once_in_as_many_steps_as_frames(frames):
    assert sorted(starts(frames, frames)) == list(range(frames))
    assert starts(frames, 3 * frames) == 3 * starts(frames, frames)


@pytest.mark.parametrize("frames", [8, 12, 16])
def test_steps_that_follow_each_other_begin_far_apart(frames):
    (roll,) = {(after - before) % frames for before, after in itertools.pairwise(starts(frames, 20))}
    assert math.gcd(roll, frames) == 1
    assert min(roll, frames - roll) >= frames // 4


@pytest.mark.parametrize("windows", OPEN, ids=str)
def test_other_windows_do_not_roll(windows):
    assert [windows.plan(16, step) for step in range(4)] == [[tuple(range(16))]] * 4
    assert not windows.apply_to(16)


def test_rolled_positions_give_what_rolled_frames_give():
    torch.manual_seed(0)
    transformer = TemporalTransformer(64, 24)
    x, frames = torch.randn(3 * 16, 64, 2, 2), 16
    rolled = x.view(3, 16, 64, 2, 2).roll(-5, 1).flatten(0, 1)
    with torch.no_grad():
        wanted = transformer(rolled, frames).view(3, 16, 64, 2, 2).roll(5, 1).flatten(0, 1)
        found = transformer(x, frames, TemporalOptions(start=5))
        plain = transformer(x, frames)
    torch.testing.assert_close(found, wanted)
    assert (found - plain).abs().max() > 1e-3


def test_a_closed_loop_of_one_window_is_another_clip(clip):
    """It was the same clip, pixel for pixel."""
    assert not near(clip(frames=8, steps=3, closed_loop="A"), clip(frames=8, steps=3), 20)
    assert torch.equal(clip(frames=8, steps=1, closed_loop="A"), clip(frames=8, steps=1))  # the first step is the same


def test_the_loop_of_a_moving_sprite_is_closed(clip):
    """From frame to frame a sprite goes some 2 pixels; at the loop point of an open clip it jumps by about 28."""
    seams = []
    for closed_loop in ("N", "A"):
        frames = clip(frames=16, steps=6, seed=11, closed_loop=closed_loop).float()
        changes = (frames - frames.roll(1, 0)).abs().mean(dim=(1, 2, 3))
        seams.append(float(changes[0] / changes[1:].median()))
    assert seams[0] > 4
    assert seams[1] < 2.5
