"""Plans of context windows: known answers, and what holds for every setting and step."""

from __future__ import annotations

import itertools
import random

import pytest
from support.oracle import literal_weights

from lib_animatediff import ClipError, ContextWindows
from lib_animatediff.engine.context_windows import FUSIONS, WINDOW_KINDS, low_discrepancy

SETTINGS = 8000


def spans(*bounds):
    return [tuple(range(first, last + 1)) for first, last in bounds]


def round_the_clip(first, length, frames):
    return tuple((first + i) % frames for i in range(length))


def test_steps_are_spread_by_halving():
    values = [0, 0.5, 0.25, 0.75, 0.125, 0.625, 0.375, 0.875, 0.0625]
    assert [low_discrepancy(step) for step in range(9)] == values


@pytest.mark.parametrize(
    ("step", "starts"), list(enumerate([(0, 12, 24), (16, 28, 8), (8, 20, 0), (24, 4, 16), (4, 16, 28)]))
)
def test_looped_plans_are_those_that_users_know(step, starts):
    plan = ContextWindows(kind="looped").plan(32, step)
    assert plan == [round_the_clip(start, 16, 32) for start in starts]


def test_closing_a_loop_adds_windows_over_the_clips_end():
    for closed, starts in ((False, (0, 12)), (True, (0, 12, 24))):
        plan = ContextWindows(kind="looped", closed=closed).plan(28, 0)
        assert plan == [round_the_clip(start, 16, 28) for start in starts]


def test_looped_strides_skip_frames_and_come_round():
    windows = ContextWindows(length=4, overlap=1, stride=2, kind="looped")
    neighbours = [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7, 8, 9), (9, 10, 11, 0)]
    assert windows.plan(12, 0) == [*neighbours, (0, 2, 4, 6), (7, 9, 11, 1)]
    # A second pass round an even clip would meet the same frames.
    assert ContextWindows(length=16, overlap=2, stride=2, kind="looped").plan(18, 0)[-1] == tuple(range(0, 18, 2))


@pytest.mark.parametrize("step", range(4))
@pytest.mark.parametrize(
    ("frames", "plan"), [(32, spans((0, 15), (12, 27), (16, 31))), (20, spans((0, 15), (4, 19))), (16, spans((0, 15)))]
)
def test_static_plans_stay_where_they_are(frames, plan, step):
    assert ContextWindows(kind="static").plan(frames, step) == plan


def test_batched_windows_lie_side_by_side():
    assert ContextWindows(kind="batched").plan(40, 3) == spans((0, 15), (16, 31), (32, 39))


@pytest.mark.parametrize(
    ("frames", "step", "plan"),
    [
        (32, 0, spans((0, 15), (12, 27), (16, 31))),
        (32, 1, spans((0, 15), (8, 23), (16, 31))),
        (32, 3, spans((0, 15), (6, 21), (16, 31))),
        (40, 0, spans((0, 15), (12, 27), (24, 39))),
        (40, 1, spans((0, 15), (6, 21), (18, 33), (24, 39))),  # three would fit too tightly to move
        (20, 5, spans((0, 15), (4, 19))),
    ],
)
def test_uniform_plans_move_between_fixed_ends(frames, step, plan):
    assert ContextWindows().plan(frames, step) == plan


def test_uniform_borders_are_somewhere_else_at_each_step():
    assert len({tuple(ContextWindows().plan(64, step)) for step in range(8)}) == 8


def test_uniform_strides_take_every_phase():
    plan = ContextWindows(length=4, overlap=1, stride=2).plan(14, 0)
    assert set().union(*(window for window in plan if window[1] - window[0] == 2)) == set(range(14))


def test_every_plan_holds_every_frame_and_no_frame_twice_in_a_window():
    """Over thousands of settings, most of them unreasonable."""
    draw = random.Random(0)
    for _ in range(SETTINGS):
        length = draw.randint(1, 40)
        kind = draw.choice(WINDOW_KINDS)
        windows = ContextWindows(
            length=length,
            overlap=draw.randrange(length),
            stride=draw.randint(1, 5),
            kind=kind,
            fusion=draw.choice(list(FUSIONS)),
            closed=kind == "looped" and draw.random() < 0.5,
        )
        frames, step = draw.randint(1, 200), draw.randint(0, 60)
        plan = windows.plan(frames, step)
        told = f"{windows}, {frames} frames, step {step}"
        assert {frame for window in plan for frame in window} == set(range(frames)), told
        assert len(plan) == len(set(plan)), told
        for window in plan:
            assert len(window) == len(set(window)) <= length, told
            weights = windows.weights(window, frames)
            assert len(weights) == len(window), told
            assert all(weight > 0 for weight in weights), told
        if kind != "looped":
            assert all(window == tuple(sorted(window)) for window in plan), told
        if kind in ("uniform", "static") and windows.stride == 1 and frames > length:
            assert all(len(window) == length for window in plan), told
            gaps = [after[0] - before[0] for before, after in itertools.pairwise(plan)]
            assert all(0 < gap <= length - windows.overlap for gap in gaps), told


def test_a_uniform_plan_costs_one_window_more_than_a_static_one_at_most():
    draw = random.Random(1)
    for _ in range(1000):
        length = draw.randint(2, 40)
        overlap, frames, step = draw.randrange(length), draw.randint(1, 200), draw.randint(0, 60)
        windows = (ContextWindows(length=length, overlap=overlap, kind=kind) for kind in ("uniform", "static"))
        uniform, static = (len(each.plan(frames, step)) for each in windows)
        assert uniform <= static + 1


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("length", "overlap"), [(1, 0), (4, 1), (5, 2), (6, 5), (16, 4)])
@pytest.mark.parametrize("kind", ["uniform", "looped"])
def test_weights_are_those_of_the_description(fusion, length, overlap, kind):
    windows = ContextWindows(length=length, overlap=overlap, kind=kind, fusion=fusion)
    for window in windows.plan(33, 3):
        wanted = literal_weights(fusion, window, 33, overlap, has_ends=kind != "looped")
        assert windows.weights(window, 33) == pytest.approx(wanted)


def test_weights_spelled_out():
    pyramid = ContextWindows(length=4, overlap=0)
    assert pyramid.weights((4, 5, 6, 7), 20) == [1, 2, 2, 1]
    assert pyramid.weights((4, 5, 6), 20) == [1, 2, 1]
    ramps = ContextWindows(length=8, overlap=3, fusion="overlap-linear")
    assert ramps.weights(tuple(range(8)), 20) == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert ramps.weights(tuple(range(12, 20)), 20) == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"length": 0}, "at least one frame, not 0"),
        ({"overlap": 16}, "overlap by 0 to 15 frames, not by 16"),
        ({"overlap": -1}, "not by -1"),
        ({"stride": 0}, "1 or more, not 0"),
        ({"kind": "round"}, "uniform, looped, static, batched"),
        ({"fusion": "mean"}, "flat, pyramid, overlap-linear"),
        ({"closed": True}, "not uniform ones"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused_at_once(settings, words):
    with pytest.raises(ClipError, match=words):
        ContextWindows(**settings)


@pytest.mark.parametrize("frames", [2, 3, 5])
def test_no_window_is_empty_where_a_stride_is_longer_than_the_clip(frames):
    plan = ContextWindows(length=1, overlap=0, stride=8).plan(frames, 0)
    assert all(plan)
    assert {frame for window in plan for frame in window} == set(range(frames))
