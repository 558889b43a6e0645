"""Summarise the metrics: means over clips, and sentences that are computed from them.

Methods are compared pairwise on clips with the same prompt and seed, which removes most of the variance. A difference
counts if it would occur by chance in at most 5 % of cases, by Student's t-test on the prompts' mean differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

from .measuring import DIRECTION, DISTANCE, DOMAIN, DYNAMIC, METRICS, MOTION, SECONDS, SMOOTHNESS, TEXT, Figures, Metric
from .methods import FROZEN, INDEPENDENT, METHODS, MODULE, ZERO, Method
from .run import EvaluatedClip

_FEWEST = 5  # prompts; fewer are never conclusive
_TABLE = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
_JUDGED = (DIRECTION, SMOOTHNESS, DOMAIN, TEXT)
_RIVALS = (ZERO, INDEPENDENT)

Outcome = Literal["ahead", "behind", "level"]


@dataclass(frozen=True)
class Comparison:
    """Comparison of two methods by one metric.

    Attributes:
        ours, theirs: means over the clips that both have.
        uncertain: mean difference that may occur by chance (95 %).
    """

    metric: Metric
    rival: Method
    ours: float
    theirs: float
    uncertain: float

    @property
    def outcome(self) -> Outcome:
        """Which method is better, if the difference is significant."""
        gain = self.ours - self.theirs
        if abs(gain) <= self.uncertain or gain == 0:
            return "level"
        return "ahead" if gain > 0 else "behind"

    def __str__(self) -> str:
        ours, theirs = self.metric.show(self.ours), self.metric.show(self.theirs)
        return f"{self.metric.title.lower()} ({ours} against {theirs})"


def means(clips: Iterable[EvaluatedClip]) -> Figures:
    """Mean of each metric over the clips that have it; median of times, which is robust against slow clips."""
    listed = list(clips)
    found: Figures = {}
    for metric in METRICS:
        values = [value for clip in listed if (value := clip.figures[metric.key]) is not None]
        middle = median if metric is SECONDS else fmean
        found[metric.key] = middle(values) if values else None
    return found


def table(clips: Sequence[EvaluatedClip]) -> dict[str, Figures]:
    """Means of each method, by key."""
    return {method.key: means(clip for clip in clips if clip.method == method.key) for method in METHODS}


def best(figures: dict[str, Figures], metric: Metric) -> list[str]:
    """Keys of the methods with the best value, without controls."""
    if metric.more_is_better is None:
        return []
    rivals = {
        method.key: value
        for method in METHODS
        if not method.is_control and (value := figures[method.key][metric.key]) is not None
    }
    # Values that look the same when formatted count as equal, and then none is the best.
    if len({metric.show(value) for value in rivals.values()}) < 2:
        return []
    winner = (max if metric.more_is_better else min)(rivals.values())
    return [key for key, value in rivals.items() if metric.show(value) == metric.show(winner)]


def compare(clips: Sequence[EvaluatedClip], rival: Method, metric: Metric) -> Comparison | None:
    """Compare the motion module with a rival pairwise; None if the metric was not measured."""
    by_method = {
        method.key: {
            (clip.model, clip.prompt.text, clip.seed): value
            for clip in clips
            if clip.method == method.key and (value := clip.figures[metric.key]) is not None
        }
        for method in (MODULE, rival)
    }
    theirs = by_method[rival.key]
    pairs = [(ours, theirs[key]) for key, ours in by_method[MODULE.key].items() if key in theirs]
    if not pairs:
        return None
    # Clips of one prompt are not independent, so each prompt counts once.
    of_prompts: dict[str, list[float]] = {}
    for key, ours in by_method[MODULE.key].items():
        if key in theirs:
            of_prompts.setdefault(key[1], []).append(ours - theirs[key])
    gains = [fmean(each) for each in of_prompts.values()]
    uncertain = math.inf if len(gains) < _FEWEST else _student(len(gains) - 1) * stdev(gains) / math.sqrt(len(gains))
    return Comparison(metric, rival, fmean(ours for ours, _ in pairs), fmean(theirs for _, theirs in pairs), uncertain)


def _student(freedom: int) -> float:
    """Two-sided 95 % quantile of Student's t, approximated beyond the table."""
    return _TABLE[freedom - 1] if freedom <= len(_TABLE) else 1.96 + 2.5 / freedom


def sentences(clips: Sequence[EvaluatedClip]) -> list[str]:
    """What the metrics of the given clips say about the motion module, as sentences."""
    comparisons = [_against(clips, rival) for rival in _RIVALS]
    figures = table(clips)
    return [*filter(None, comparisons), _on_motion(figures), _on_smoothness(figures)]


def _against(clips: Sequence[EvaluatedClip], rival: Method) -> str:
    found = [each for metric in _JUDGED if (each := compare(clips, rival, metric))]
    groups = {
        "ahead in": [each for each in found if each.outcome == "ahead"],
        "behind in": [each for each in found if each.outcome == "behind"],
        "not clearly ahead in": [each for each in found if each.outcome == "level"],
    }
    parts = [f"{how} {_listed(map(str, group))}" for how, group in groups.items() if group]
    return f"Compared with {rival.name}, the motion module is {_listed(parts, '; ')}." if parts else ""


def _on_motion(figures: dict[str, Figures]) -> str:
    ours, unrelated = figures[MODULE.key], figures[INDEPENDENT.key]
    distance = ours[DISTANCE.key]
    moved = (
        "" if distance is None else f", and its objects move {DISTANCE.show(distance)} pixels in the prompt's direction"
    )
    return (
        f"The fastest 5 % of its pixels move {MOTION.show(ours[MOTION.key])} pixels per frame{moved}; "
        f"{DYNAMIC.show(ours[DYNAMIC.key])} of its clips are dynamic by VBench's rule. Between independent frames, "
        f"the flow is {MOTION.show(unrelated[MOTION.key])} pixels."
    )


def _on_smoothness(figures: dict[str, Figures]) -> str:
    frozen, ours = figures[FROZEN.key][SMOOTHNESS.key], figures[MODULE.key][SMOOTHNESS.key]
    return (
        f"The frozen frame is smoother ({SMOOTHNESS.show(frozen)} against {SMOOTHNESS.show(ours)}), as it is smoother "
        "than any clip with motion: smoothness alone proves nothing."
    )


def _listed(parts: Iterable[str], between: str = ", ") -> str:
    *others, last = parts
    return f"{between.join(others)} and {last}" if others and between == ", " else between.join([*others, last])
