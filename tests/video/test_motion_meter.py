"""How evenly a clip moves, as numbers."""

from __future__ import annotations

import pytest
from PIL import Image

from lib_animatediff.video import measure


def grey(level, size=(96, 64)):
    return Image.new("RGB", size, (level,) * 3)


def turning(count, size=(96, 64), start=0, jump_at=()):
    """A bright bar that moves a pixel a frame, round the end; at some frames it jumps by eight."""
    frames, place = [], start
    for index in range(count):
        place += 8 if index in jump_at else 1
        frame = grey(20, size)
        for left in (place % size[0], place % size[0] - size[0]):
            frame.paste((220, 220, 220), (left, 0, left + 12, size[1]))
        frames.append(frame)
    return frames


def test_a_change_is_a_difference_of_linear_light():
    motion = measure([grey(0), grey(255), grey(128), grey(128)])
    half = (128 / 255) ** 2.2
    assert motion.changes == pytest.approx((1, 1 - half, 0))
    assert motion.loop == pytest.approx(half)


@pytest.mark.parametrize(("colour", "share"), [((255, 0, 0), 0.2126), ((0, 255, 0), 0.7152), ((0, 0, 255), 0.0722)])
def test_colours_count_as_eyes_see_them(colour, share):
    assert measure([grey(0), Image.new("RGB", (8, 8), colour).resize((96, 64))]).changes == pytest.approx((share,))


def test_an_even_clip_has_no_seam_and_an_open_end_shows_at_the_loop_point():
    motion = measure(turning(96), borders=[16, 32, 48])
    assert motion.worst_seam == pytest.approx(1, abs=0.15)
    assert motion.loop_seam == pytest.approx(1, abs=0.15)
    assert measure(turning(20)).loop_seam > 5


def test_a_jump_at_a_border_is_the_worst_seam_and_one_elsewhere_is_none():
    motion = measure(turning(48, jump_at=(24,)), borders=[12, 24, 36])
    assert motion.worst_border == 24
    assert 5 < motion.worst_seam < 9
    elsewhere = measure(iter(turning(48, jump_at=(20,))), borders=[12, 24, 36])  # frames may come one by one
    assert elsewhere.worst_seam == pytest.approx(1, abs=0.15)


def test_grain_hardly_counts():
    plain = turning(16, size=(512, 512))
    grain = [Image.blend(f, Image.effect_noise(f.size, 60).convert("RGB"), 0.1) for f in plain]
    assert measure(grain, [8]).worst_seam == pytest.approx(1, abs=0.2)


def test_borders_outside_the_clip_are_left_out():
    assert measure(turning(8), borders=[0, 4, 4, 8, 99, -3]).borders == (4,)


@pytest.mark.parametrize("frames", [[], [grey(5)], [grey(5)] * 3])
def test_clips_without_motion_have_numbers_too(frames):
    motion = measure(frames, borders=[1])
    assert (motion.loop, motion.loop_seam) == (0, 0)
    assert motion.worst_seam in (None, 0)
    assert motion.worst_border in (None, 1)
