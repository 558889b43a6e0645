"""FreeNoise in context windows: no window has one noise twice, in any kind of windows and over the seam of a loop."""

from __future__ import annotations

import itertools

import pytest
from support.plans import plan_of

from lib_animatediff import ContextWindows
from lib_animatediff.request.plan import ClipPlan

# Of windows, as settings.
KINDS = [{"context_kind": kind} for kind in ("uniform", "static", "batched", "looped")]
KINDS += [{"closed_loop": loop} for loop in ("R-P", "R+P", "A")]
LONGEST = 1046
FRAMES = (17, 31, 33, 48, 97, 250, LONGEST)
EVERY_LENGTH = (*range(17, 170), *range(170, LONGEST, 61), LONGEST)
STEPS = range(5)
SEED = 7


def freenoise(frames: int, **settings: object) -> ClipPlan:
    return plan_of(frames=frames, noise="freenoise", **settings)


def windows_with_a_noise_twice(plan: ClipPlan) -> int:
    sources = plan.noise.sources(plan.frames, SEED)
    assert plan.windows is not None
    windows = (window for step in STEPS for window in plan.windows.plan(plan.frames, step))
    return sum(len({sources[frame] for frame in window}) < len(window) for window in windows)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("frames", FRAMES)
def test_no_window_has_one_noise_twice(frames, kind):
    for overlap, stride in ((4, 1), (0, 2), (15, 1), (7, 3)):
        plan = freenoise(frames, overlap=overlap, stride=stride, **kind)
        assert windows_with_a_noise_twice(plan) == 0, (overlap, stride)


@pytest.mark.matrix
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("overlap", range(16))
@pytest.mark.parametrize("stride", [1, 2, 3])
def test_no_window_has_one_noise_twice_at_any_overlap_and_stride(kind, overlap, stride):
    for frames in EVERY_LENGTH:
        plan = freenoise(frames, overlap=overlap, stride=stride, **kind)
        assert windows_with_a_noise_twice(plan) == 0, frames


@pytest.mark.parametrize("length", [1, 2, 5, 8, 24, 32])
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_window_of_another_length_has_one_noise_twice(length, kind):
    for frames in (length + 1, 3 * length + 1, 100):
        assert windows_with_a_noise_twice(freenoise(frames, context_length=length, overlap=0, **kind)) == 0, frames


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_distant_frames_share_noise_in_another_order(kind):
    sources = freenoise(200, **kind).noise.sources(200, SEED)
    assert sources[0] == 0
    assert len(set(sources)) < 25
    assert all(source <= frame for frame, source in enumerate(sources))
    apart = {after - before for before, after in itertools.pairwise(sources)}
    assert not apart <= {1, 1 - len(set(sources))}, "nothing is shuffled"
    assert sources != freenoise(200, **kind).noise.sources(200, SEED + 1)


@pytest.mark.parametrize("kind", KINDS[:3], ids=str)
@pytest.mark.parametrize("stride", [1, 3])
def test_frames_at_the_end_change_no_earlier_ones(kind, stride):
    longest = freenoise(300, stride=stride, **kind).noise.sources(300, SEED)
    for frames in range(1, 300, 7):
        assert freenoise(frames, stride=stride, **kind).noise.sources(frames, SEED) == longest[:frames]


def test_other_windows_given_to_a_plan_are_those_of_its_noise():
    plan = freenoise(48).with_windows(ContextWindows(length=8, overlap=2))
    assert windows_with_a_noise_twice(plan) == 0
    assert len(set(plan.noise.sources(48, SEED))) < 16
