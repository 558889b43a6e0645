"""What the WebUI's progress bar shows during one request: the share of the work, and a few words beside it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.progress import ShownShare
from lib_animatediff.request.plan import ClipPlan

from .tasks import tasks_of
from .workload import Speeds, Workload


class ProgressBar:
    """The bar of one request.

    Args:
        speeds: of earlier requests.
        clock: seconds.
    """

    def __init__(self, speeds: Speeds, clock: Callable[[], float] = time.monotonic) -> None:
        self._speeds = speeds
        self._clock = clock
        self._began = clock()
        self._shown = ShownShare(self._share, is_alone=a1111.state().job_count <= 0)
        self._work: Workload | None = None

    def begin(self, p: Any, plan: ClipPlan, passes: dict[bool, float]) -> None:
        """Show the bar; ``passes``: see `tasks_of`."""
        if self._work is None:
            self._work = Workload(tasks_of(p, plan, passes), self._speeds, self._clock, self._began)
            self._shown.show(p.n_iter * len(passes))

    def say(self, text: str = "") -> None:
        """Show a text of at most `MOST_LETTERS` letters beside the percentage."""
        a1111.state().textinfo = text

    def start(self, kind: str, ahead: float) -> None:
        """Begin a kind of work; ``ahead``: units until the next event."""
        if self._work is not None:
            self._work.start(kind, ahead)

    def advance(self, kind: str, round_: int, units: float, ahead: float) -> None:
        """Note an event, see `Workload.advance`."""
        if self._work is not None:
            self._work.advance(kind, round_, units, ahead)

    def resize(self, kind: str, units: float) -> None:
        """Correct the amount of work in one round."""
        if self._work is not None:
            self._work.resize(kind, units)

    def complete(self, kind: str, rounds: int | None = None) -> None:
        """Count rounds as done, whether they were or not; None: all."""
        if self._work is not None:
            self._work.complete(kind, rounds)

    def finish(self) -> None:
        """The request is complete: show 100 %, and remember its speeds."""
        if self._work is not None:
            self._work.finish()
        self._end(complete=True)

    def stop(self) -> None:
        """Restore the WebUI's own progress. After `finish` there is nothing left to do."""
        self._end(complete=False)

    def _end(self, *, complete: bool) -> None:
        if self._work is not None:
            self._work = None
            self._shown.end(complete=complete)
            a1111.state().textinfo = None

    def _share(self) -> float:
        work = self._work
        return work.share() if work is not None else 0.0
