"""What the sentences say follows from the figures, and from nothing else."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lib_animatediff.evaluation.measuring import DIRECTION, DOMAIN, METRICS, MOTION, SECONDS, SMOOTHNESS
from lib_animatediff.evaluation.methods import FROZEN, INDEPENDENT, METHODS, MODULE, ZERO
from lib_animatediff.evaluation.prompts import Prompt
from lib_animatediff.evaluation.run import EvaluatedClip
from lib_animatediff.evaluation.verdict import best, compare, means, sentences, table

FIGURES = {metric.key: 50.0 for metric in METRICS} | {"direction": 0.5, "dynamic": 0.5, "text": None}


def shown(method, seed, prompt=None, **figures):
    text, frames = Prompt(prompt or f"a fox, {seed}"), np.zeros((3, 8, 8, 3), np.uint8)
    return EvaluatedClip("base", method.key, text, seed, frames, FIGURES | figures, "right", "")


def clips(ours, theirs, metric="smoothness"):
    """Clips of all methods; our figures and Text2Video-Zero's in one metric, a prompt each."""
    made = [shown(method, seed) for method in (FROZEN, INDEPENDENT) for seed in range(len(ours))]
    made += [shown(MODULE, seed, **{metric: value}) for seed, value in enumerate(ours)]
    return made + [shown(ZERO, seed, **{metric: value}) for seed, value in enumerate(theirs)]


OURS, THEIRS = [90, 92, 94, 99, 98], [80, 82, 84, 85, 88]


def outcome(ours, theirs):
    return compare(clips(ours, theirs), ZERO, SMOOTHNESS).outcome


@pytest.mark.parametrize(
    ("ours", "theirs", "expected"),
    [
        (OURS, THEIRS, "ahead"),
        (THEIRS, OURS, "behind"),
        ([90, 70, 80, 85, 75], [80, 82, 79, 80, 80], "level"),
        ([80, 82, 84, 86, 88], [80, 82, 84, 86, 88], "level"),
        ([99, 99, 99, 99], [10, 10, 10, 10], "level"),  # of so few nobody knows what chance does
    ],
)
def test_a_difference_counts_if_it_is_more_than_chance(ours, theirs, expected):
    assert outcome(ours, theirs) == expected


def test_pairs_have_their_chance_in_common():
    ours = [10.0, 50.0, 90.0, 30.0, 70.0]
    assert outcome([value + 1 for value in ours], ours) == "ahead"
    assert outcome([value + 1 for value in reversed(ours)], ours) == "level"


def test_chance_is_that_of_the_mean_of_pairs():
    """Student's t of five pairs: 2.776 standard errors."""
    found = compare(clips([3, 5, 9, 4, 4], [1, 2, 3, 2, 2]), ZERO, SMOOTHNESS)
    gains = [2, 3, 6, 2, 2]
    variance = sum((gain - 3) ** 2 for gain in gains) / 4
    assert found.uncertain == pytest.approx(2.776 * math.sqrt(variance / 5), rel=2e-3)
    assert (found.ours, found.theirs) == (5, 2)


def test_a_prompt_counts_once_however_many_clips_it_has():
    """Seeds of a prompt say much the same: more of them are no more prompts."""
    once = compare(clips(OURS, THEIRS), ZERO, SMOOTHNESS)
    often = [
        shown(method, seed, prompt=f"a fox, {number}", smoothness=value)
        for method, values in ((MODULE, OURS), (ZERO, THEIRS))
        for number, value in enumerate(values)
        for seed in range(4)
    ]
    assert compare(often, ZERO, SMOOTHNESS).uncertain == pytest.approx(once.uncertain)


def test_clips_that_only_one_of_them_has_do_not_count():
    made = [*clips([90, 92, 94], [80, 82, 84]), shown(MODULE, 99, smoothness=0.0)]
    assert compare(made, ZERO, SMOOTHNESS).ours == pytest.approx(92)


def test_what_was_not_measured_is_not_compared():
    made = [shown(method, 0, direction=None) for method in METHODS]
    assert compare(made, ZERO, DIRECTION) is None
    assert "direction (" not in " ".join(sentences(made))


def test_means_are_over_the_clips_that_have_the_figure_and_times_are_medians():
    figures = enumerate(((1, 3), (None, 4), (0, 99)))
    found = means([shown(MODULE, seed, direction=value, seconds=time) for seed, (value, time) in figures])
    assert (found["direction"], found["seconds"]) == (0.5, 4)
    assert means([])["direction"] is None


def test_the_best_is_no_control_and_less_time_is_better_and_more_motion_is_not():
    controls = [shown(FROZEN, 5, smoothness=100.0), shown(INDEPENDENT, 5, smoothness=99.0)]
    made = [*clips([90, 92], [80, 82]), *controls]
    assert best(table(made), SMOOTHNESS) == ["module"]
    assert best(table(clips([90.001], [90.002])), SMOOTHNESS) == []  # what looks the same is as good
    made = clips([3], [5], "seconds")
    assert best(table(made), SECONDS) == ["module"]
    assert best(table(made), MOTION) == []


def test_good_and_bad_are_said_with_their_figures_and_the_frozen_frame_is_named():
    made = clips([90, 91, 92, 93, 94], [80, 81, 82, 83, 84])
    for clip in made:
        clip.figures["domain"] = {"module": 60.0, "text2video-zero": 70.0}.get(clip.method, 50.0) + clip.seed * 0.01
    against_zero, against_independent, *more = sentences(made)
    assert "Text2Video-Zero" in against_zero
    assert "ahead in smoothness (92.00 against 82.00)" in against_zero
    assert "behind in domain (60.02 against 70.02)" in against_zero
    assert "not clearly ahead in direction (50\N{NO-BREAK SPACE}% against 50\N{NO-BREAK SPACE}%)" in against_zero
    assert "ahead in smoothness (92.00 against 50.00) and domain (60.02 against 50.02)" in against_independent
    assert "frozen frame" in " ".join(more)
    assert "smoothness alone proves nothing" in " ".join(more)


@pytest.mark.parametrize(
    ("metric", "value", "text"),
    [(DIRECTION, 0.946, "95\N{NO-BREAK SPACE}%"), (DOMAIN, 84.849, "84.85"), (DOMAIN, None, "—")],
)
def test_figures_as_people_read_them(metric, value, text):
    assert metric.show(value) == text
