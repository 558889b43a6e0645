"""How much of a request is done: work of several kinds, at speeds that are measured while it runs.

The share is that of time: time passed / (time passed + time that the rest will take). So the time left that the WebUI
derives from it is the time that the rest will take.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

MOST_BEFORE_THE_END = 0.999
_OF_THE_UNIT = 0.95  # how far the share may move before a unit under way is really done


@dataclass
class Task:
    """One kind of work.

    Attributes:
        kind: name.
        units: amount in one round, in units that take equally long.
        rounds: how often it is done, once per batch for most kinds.
        seconds: per unit, as long as nothing was measured.
        like: the kind of work whose measured speed says how busy the device is.
        is_guess: whether ``seconds`` is a multiple of that work's, and not a time of its own.
        place: device, model and size, for which speeds are remembered.
        has_overhead: whether the first unit takes longer each time, and not only when the device warms up.
    """

    kind: str
    units: float
    rounds: int = 1
    seconds: float = 1.0
    like: str = ""
    is_guess: bool = True
    place: Hashable = ()
    has_overhead: bool = False


class Speeds:
    """Seconds per unit in earlier requests, by kind of work and by place."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, Hashable], float] = {}

    def of(self, task: Task) -> float | None:
        """The speed of such work; None if there was none."""
        return self._known.get((task.kind, task.place))

    def learn(self, task: Task, seconds: float) -> None:
        """Remember a speed."""
        self._known[task.kind, task.place] = seconds


@dataclass
class _Measured:
    """Time and units of one kind of work; those of the first event also by themselves."""

    seconds: float = 0.0
    units: float = 0.0
    first_seconds: float = 0.0
    first_units: float = 0.0

    def add(self, seconds: float, units: float) -> None:
        if not self.units:
            self.first_seconds, self.first_units = seconds, units
        self.seconds += seconds
        self.units += units

    @property
    def has_more(self) -> bool:
        return self.units > self.first_units

    def rate(self, *, with_first: bool) -> float:
        if with_first or not self.has_more:
            return self.seconds / self.units
        return (self.seconds - self.first_seconds) / (self.units - self.first_units)


class Workload:
    """The work of one request.

    Args:
        tasks: all of it, in any order.
        speeds: of earlier requests; learns from this one.
        clock: seconds.
        began: when the request began, by the clock; None: now.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        speeds: Speeds,
        clock: Callable[[], float] = time.monotonic,
        began: float | None = None,
    ) -> None:
        self._tasks = {task.kind: task for task in tasks}
        self._done = dict.fromkeys(self._tasks, 0.0)
        self._measured = {kind: _Measured() for kind in self._tasks}
        self._speeds = speeds
        self._clock = clock
        self._began = clock() if began is None else began
        self._last = clock()
        self._ahead = 0.0  # seconds that the unit under way takes
        self._highest = 0.0

    def resize(self, kind: str, units: float) -> None:
        """Correct the amount of one round."""
        self._tasks[kind].units = units

    def start(self, kind: str, ahead: float) -> None:
        """Begin to measure; ``ahead``: units until the next event. Unknown kinds take no time."""
        self._last = self._clock()
        self._look(kind, ahead)

    def advance(self, kind: str, round_: int, units: float, ahead: float) -> None:
        """Note an event: so many units of a round are done, and ``ahead`` more until the next event."""
        if kind not in self._tasks:
            return
        task = self._tasks[kind]
        done = min(round_ * task.units + min(units, task.units), task.rounds * task.units)
        now, more = self._clock(), done - self._done[kind]
        if more > 0:
            self._measured[kind].add(now - self._last, more)
            self._done[kind] = done
        self._last = now
        self._look(kind, min(ahead, task.rounds * task.units - done))

    def complete(self, kind: str, rounds: int | None = None) -> None:
        """Count rounds as done, whether they were or not; None: all."""
        if kind in self._tasks:
            task = self._tasks[kind]
            units = task.units * (task.rounds if rounds is None else min(rounds, task.rounds))
            self._done[kind] = max(self._done[kind], units)
            self._ahead = 0.0

    def finish(self) -> None:
        """Remember the speeds of this request."""
        for kind, measured in self._measured.items():
            task = self._tasks[kind]
            if measured.units:
                self._speeds.learn(task, measured.rate(with_first=task.has_overhead))

    def share(self) -> float:
        """The share of the request that is done, 0 to `MOST_BEFORE_THE_END`; it never falls."""
        now = self._clock()
        passed = max(now - self._began, 0.0)
        left = max(self._left() - min(now - self._last, self._ahead * _OF_THE_UNIT), 0.0)
        share = passed / (passed + left) if passed + left > 0 else 0.0
        self._highest = max(self._highest, min(share, MOST_BEFORE_THE_END))
        return self._highest

    def _left(self) -> float:
        return sum(
            self._rate(task) * max(task.units * task.rounds - self._done[kind], 0.0)
            for kind, task in self._tasks.items()
        )

    def _look(self, kind: str, ahead: float) -> None:
        self._ahead = max(ahead, 0.0) * self._rate(self._tasks[kind]) if kind in self._tasks else 0.0

    def _rate(self, task: Task) -> float:
        """Seconds per unit: measured now, or else earlier, or else as the measured speed of other work suggests."""
        measured = self._measured[task.kind]
        if measured.has_more:
            return measured.rate(with_first=False)
        known, other = self._speeds.of(task), self._tasks.get(task.like)
        if known is not None:
            return known * self._slowness(other)
        if measured.units and not task.has_overhead:
            return measured.rate(with_first=True)
        return task.seconds * (self._rate(other) / other.seconds if other and task.is_guess else 1.0)

    def _slowness(self, task: Task | None) -> float:
        """How much longer such work takes now than in earlier requests, as on a busy device."""
        known = self._speeds.of(task) if task else None
        if task is None or not known or not self._measured[task.kind].has_more:
            return 1.0
        return self._measured[task.kind].rate(with_first=False) / known
