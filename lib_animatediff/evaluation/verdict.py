"""What the figures say: means over clips, and sentences that are computed, not written.

Two methods are compared clip by clip, of one prompt and seed each, since those pairs have most of their chance in
common. A difference counts where chance would make it so large in one case of twenty at most: by Student's t of the
prompts' mean differences.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median, stdev
from typing import Literal

from .measuring import DIRECTION, DOMAIN, DYNAMIC, METRICS, MOTION, SECONDS, SMOOTHNESS, TEXT, WAY, Figures, Metric
from .methods import FROZEN, INDEPENDENT, METHODS, MODULE, ZERO, Method
from .run import EvaluatedClip

_FEWEST = 5  # prompts; fewer prove nothing
_TABLE = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
_JUDGED = (DIRECTION, SMOOTHNESS, DOMAIN, TEXT)
_RIVALS = (ZERO, INDEPENDENT)

Outcome = Literal["ahead", "behind", "level"]


@dataclass(frozen=True)
class Comparison:
    """Two methods in one metric.

    Attributes:
        ours, theirs: means over the clips that both have.
        uncertain: how large a mean difference may be by chance (95 %).
    """

    metric: Metric
    rival: Method
    ours: float
    theirs: float
    uncertain: float

    @property
    def outcome(self) -> Outcome:
        """Who is better, if the difference is more than chance."""
        gain = self.ours - self.theirs
        if abs(gain) <= self.uncertain or gain == 0:
            return "level"
        return "ahead" if gain > 0 else "behind"

    def __str__(self) -> str:
        ours, theirs = self.metric.show(self.ours), self.metric.show(self.theirs)
        return f"{self.metric.title.lower()} ({ours} against {theirs})"


def means(clips: Iterable[EvaluatedClip]) -> Figures:
    """Mean of each metric over the clips that have it; of times the median, which one slow clip does not move."""
    listed = list(clips)
    found: Figures = {}
    for metric in METRICS:
        values = [value for clip in listed if (value := clip.figures[metric.key]) is not None]
        middle = median if metric is SECONDS else fmean
        found[metric.key] = middle(values) if values else None
    return found


def table(clips: Sequence[EvaluatedClip]) -> dict[str, Figures]:
    """Means of each method, by its key."""
    return {method.key: means(clip for clip in clips if clip.method == method.key) for method in METHODS}


def best(figures: dict[str, Figures], metric: Metric) -> list[str]:
    """Keys of the methods with the best figure; controls are no rivals."""
    if metric.more_is_better is None:
        return []
    rivals = {
        method.key: value
        for method in METHODS
        if not method.is_control and (value := figures[method.key][metric.key]) is not None
    }
    # As shown: what looks the same is the same, and then none is the best.
    if len({metric.show(value) for value in rivals.values()}) < 2:
        return []
    winner = (max if metric.more_is_better else min)(rivals.values())
    return [key for key, value in rivals.items() if metric.show(value) == metric.show(winner)]


def compare(clips: Sequence[EvaluatedClip], rival: Method, metric: Metric) -> Comparison | None:
    """The motion module against a rival, pair by pair; None where the metric was not measured."""
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
    # Models and seeds of one prompt have much in common: a prompt counts once.
    of_prompts: dict[str, list[float]] = {}
    for key, ours in by_method[MODULE.key].items():
        if key in theirs:
            of_prompts.setdefault(key[1], []).append(ours - theirs[key])
    gains = [fmean(each) for each in of_prompts.values()]
    uncertain = math.inf if len(gains) < _FEWEST else _student(len(gains) - 1) * stdev(gains) / math.sqrt(len(gains))
    return Comparison(metric, rival, fmean(ours for ours, _ in pairs), fmean(theirs for _, theirs in pairs), uncertain)


def _student(freedom: int) -> float:
    """Beyond which 5 % of Student's t lie, from the table or nearly so."""
    return _TABLE[freedom - 1] if freedom <= len(_TABLE) else 1.96 + 2.5 / freedom


def sentences(clips: Sequence[EvaluatedClip]) -> list[str]:
    """What the figures of some clips, of a model for example, say about the motion module, good and bad."""
    said = [_against(clips, rival) for rival in _RIVALS]
    figures = table(clips)
    return [*filter(None, said), _on_motion(figures), _on_smoothness(figures)]


def _against(clips: Sequence[EvaluatedClip], rival: Method) -> str:
    found = [each for metric in _JUDGED if (each := compare(clips, rival, metric))]
    groups = {
        "ahead in": [each for each in found if each.outcome == "ahead"],
        "behind in": [each for each in found if each.outcome == "behind"],
        "not clearly ahead in": [each for each in found if each.outcome == "level"],
    }
    parts = [f"{how} {_listed(map(str, group))}" for how, group in groups.items() if group]
    return f"Against {rival.name} the motion module is {_listed(parts, '; ')}." if parts else ""


def _on_motion(figures: dict[str, Figures]) -> str:
    ours, unrelated = figures[MODULE.key], figures[INDEPENDENT.key]
    gone = ours[WAY.key]
    way = "" if gone is None else f" and get {WAY.show(gone)} pixels to where the prompt says"
    return (
        f"Its clips move by {MOTION.show(ours[MOTION.key])} pixels per frame where they move most{way}; "
        f"{DYNAMIC.show(ours[DYNAMIC.key])} of them are dynamic by VBench's rule. Between independent frames flow "
        f"jumps by {MOTION.show(unrelated[MOTION.key])} pixels."
    )


def _on_smoothness(figures: dict[str, Figures]) -> str:
    frozen, ours = figures[FROZEN.key][SMOOTHNESS.key], figures[MODULE.key][SMOOTHNESS.key]
    return (
        f"The frozen frame is smoother ({SMOOTHNESS.show(frozen)} against {SMOOTHNESS.show(ours)}), as it is than "
        "anything that moves: smoothness alone proves nothing."
    )


def _listed(parts: Iterable[str], between: str = ", ") -> str:
    *others, last = parts
    return f"{between.join(others)} and {last}" if others and between == ", " else between.join([*others, last])
