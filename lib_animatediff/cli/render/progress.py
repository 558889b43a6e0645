"""How far a run of `render` is: one line for each clip, which a log keeps as well."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import click

from motion_module.limits import printable

from .clips import ClipJob

_MINUTE, _HOUR = 60, 3600


def say(line: str) -> None:
    """Print a line for people, without control characters, on the standard error output."""
    click.echo(printable(line), err=True)


class Progress:
    """Counts clips and estimates the time that is left, by the work of each.

    Args:
        jobs: the clips to render.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(self, jobs: Sequence[ClipJob], now: Callable[[], float] = time.monotonic) -> None:
        self._now, self._begun = now, now()
        self._count, self._ended = len(jobs), 0
        self._left, self._rendered = sum(job.work for job in jobs), 0.0
        self._said: set[str] = set()

    def end(self, job: ClipJob, what: str, rendered: bool) -> None:
        """Say what became of a clip."""
        self._ended += 1
        self._left -= job.work
        self._rendered += job.work * rendered
        left = "" if self._ended == self._count else self._time_left()
        say(f"[{self._ended}/{self._count}] {what}{left}")

    def say(self, job: ClipJob, lines: Sequence[str]) -> None:
        """Say each line once in a run, with the first clip that it is about."""
        for line in lines:
            if line not in self._said:
                self._said.add(line)
                say(f"Clip {job.number}: {line}")

    def _time_left(self) -> str:
        if not self._rendered:
            return ""
        return f" ({in_words((self._now() - self._begun) * self._left / self._rendered)} left)"


def in_words(seconds: float) -> str:
    """A time for people, such as ``2 h 5 min``."""
    if seconds < _MINUTE:
        return f"{seconds:.0f} s"
    minutes = round(seconds / _MINUTE)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
