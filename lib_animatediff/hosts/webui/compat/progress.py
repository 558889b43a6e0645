"""The share that the WebUI's progress bar shows, set by us for one request.

The page and ``/sdapi/v1/progress`` compute ``(job_no + sampling_step / sampling_steps) / job_count`` when they ask, and
the time left from it. The WebUI counts jobs and steps on its own; samplers, extensions and the Interrupt button read
them. So only ``job_no`` can give the sum another value. It is computed when it is read, by a class that
``shared.state`` has during the request, and so it moves between steps as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import a1111

_JOB = "job_no"


def is_stopped() -> bool:
    """Whether the user has interrupted or skipped what the WebUI is doing."""
    state = a1111.state()
    return bool(state.interrupted or state.skipped)


class ShownShare:
    """Shows a share of the request, 0 to 1, in the WebUI's progress.

    Args:
        share: called when anyone asks, from any thread.
        is_alone: whether the request is the whole job; a selectable script runs several.
    """

    def __init__(self, share: Callable[[], float], *, is_alone: bool) -> None:
        self._share = share
        self._is_alone = is_alone
        self._state: Any = None
        self._first = 0
        self._jobs = 0
        self._former: Any = None
        self._ours: Any = None

    def show(self, jobs: int) -> None:
        """Begin to show the share, after the WebUI has counted its jobs; ``jobs``: those of this request."""
        if self._ours is not None:
            return
        state = a1111.state()
        self._state, self._jobs = state, jobs
        self._first = vars(state).setdefault(_JOB, state.job_no)
        self._former = type(state)
        self._ours = _state_class(self._former, self)
        state.__class__ = self._ours

    def end(self, *, complete: bool = False) -> None:
        """Restore the WebUI's own count; ``complete``: with this request's jobs done."""
        state, self._state = self._state, None
        if state is None:
            return
        if complete:
            vars(state).update({_JOB: self._first + self._own_jobs(state.job_count), "sampling_step": 0})
        if type(state) is self._ours:
            state.__class__ = self._former

    def number(self) -> float:
        """The ``job_no`` with which the WebUI's formula gives the share."""
        state = a1111.state()
        counted: float = vars(state)[_JOB]
        if self._state is None or state.job_count <= 0:
            return counted
        steps = state.sampling_step / state.sampling_steps if state.sampling_steps > 0 else 0
        return float(self._first + self._share() * self._own_jobs(state.job_count) - steps)

    def _own_jobs(self, count: int) -> int:
        return count - self._first if self._is_alone else self._jobs


def _state_class(former: Any, shown: ShownShare) -> Any:
    """A class of the WebUI's state whose ``job_no`` is ours; the WebUI's own count goes on beside it."""

    def read(_state: Any) -> float:
        return shown.number()

    def count(self: Any, value: float) -> None:  # the WebUI adds 1 to what it has read
        vars(self)[_JOB] += round(value - shown.number())

    def begin(self: Any, *args: Any, **kwargs: Any) -> None:  # another request, although ours was not closed
        shown.end()
        former.begin(self, *args, **kwargs)

    def as_dict(self: Any) -> dict[str, Any]:  # clients get whole jobs
        return {**former.dict(self), _JOB: vars(self)[_JOB]}

    members = {_JOB: property(read, count), "begin": begin, "dict": as_dict, "__module__": former.__module__}
    return type(former.__name__, (former,), members)
