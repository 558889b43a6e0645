"""Compares things side by side in one process: in turn, after a warm-up, as often as asked, as medians and ratios.

Machines are never idle and never alike: what a page quotes are ratios of times that were taken one after the other, so
that whatever slows one of a round slows the others, too.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

FEWEST_ROUNDS = 7


@dataclass(frozen=True)
class Rounds:
    """Seconds of each thing, round by round.

    Attributes:
        seconds: by name, as many as there were rounds.
    """

    seconds: Mapping[str, Sequence[float]]

    def median(self, name: str) -> float:
        """Of all rounds."""
        return statistics.median(self.seconds[name])

    def ratio(self, name: str, other: str) -> tuple[float, float, float]:
        """Median, least and most of the rounds' ratios."""
        each = [a / b for a, b in zip(self.seconds[name], self.seconds[other], strict=True)]
        return statistics.median(each), min(each), max(each)

    def less(self, name: str, base: str, called: str) -> Rounds:
        """With another entry: how much longer one thing takes than its base, in the same round."""
        extra = [a - b for a, b in zip(self.seconds[name], self.seconds[base], strict=True)]
        return Rounds({**self.seconds, called: extra})


def compare(things: Mapping[str, Callable[[], object]], rounds: int = FEWEST_ROUNDS) -> Rounds:
    """Time each thing in each round, beginning with another one each time; the first run of each is not counted."""
    if rounds < FEWEST_ROUNDS:
        raise ValueError(f"{rounds} rounds say little: take {FEWEST_ROUNDS} or more.")
    names = list(things)
    for name in names:
        things[name]()
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        first = number % len(names)
        for name in names[first:] + names[:first]:
            start = time.perf_counter()
            things[name]()
            seconds[name].append(time.perf_counter() - start)
    return Rounds(seconds)


def conditions() -> str:
    """What the figures depend on, in one line."""
    libraries = [f"{name} {_version(name)}" for name in ("torch", "diffusers", "einops")]
    return f"{_processor()}, {torch.get_num_threads()} threads, {platform.system()}, {', '.join(libraries)}"


def spread(values: tuple[float, float, float]) -> str:
    """A ratio with its spread, for a table."""
    middle, least, most = values
    return f"{middle:.2f} ({least:.2f} to {most:.2f})"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
