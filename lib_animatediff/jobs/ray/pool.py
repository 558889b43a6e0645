"""Actors of a Ray cluster that do tasks. One that is lost is replaced, and its task returned."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from .cluster import RayError, connect, resources

MOST_IN_A_ROW = 20  # losses without a result between them, after which no worker is started any more
_T = TypeVar("_T")


@dataclass(frozen=True)
class Ended(Generic[_T]):
    """What became of a task.

    Attributes:
        number: of the worker.
        task: as it was given.
        result: what the worker returned.
        is_lost: whether the worker was lost, so that there is no result.
    """

    number: int
    task: _T
    result: Any = None
    is_lost: bool = False


@dataclass
class _Worker:
    """An actor, and what it is doing."""

    number: int
    actor: Any
    process: int | None = None  # its number, once it is ready
    task: Any = None


class Pool(Generic[_T]):
    """Workers on a cluster, each with what it has loaded. They are used as soon as they are ready.

    Args:
        count: of workers. As many as the cluster has room for are started.
        make: called in each worker; returns what does a task. It goes to other machines.
    """

    def __init__(self, count: int, make: Callable[[], Callable[..., Any]]) -> None:
        self._ray = connect()
        self._make = make
        self._actor = self._ray.remote(_Actor).options(**resources(self._ray), max_restarts=0, max_concurrency=1)
        self._pending: dict[Any, _Worker] = {}
        self._workers = [self._started(number) for number in range(count)]
        self._in_a_row = 0
        self.lost = 0

    @property
    def is_idle(self) -> bool:
        """Whether no worker has a task."""
        return all(worker.task is None for worker in self._workers)

    def free(self) -> list[int]:
        """The numbers of the workers that can take a task."""
        return [worker.number for worker in self._workers if worker.process is not None and worker.task is None]

    def give(self, number: int, task: _T, *arguments: Any) -> None:
        """Let a free worker do a task."""
        worker = self._workers[number]
        worker.task = task
        self._pending[worker.actor.do.remote(*arguments)] = worker

    def ended(self, seconds: float) -> Iterator[Ended[_T]]:
        """The tasks that have ended, for which this waits a while.

        Raises:
            RayError: a worker cannot begin, or too many were lost.
        """
        if not self._pending:
            time.sleep(seconds)
            return
        done, _ = self._ray.wait(list(self._pending), timeout=seconds)
        for reference in done:
            worker = self._pending.pop(reference)
            try:
                result = self._ray.get(reference)
            except self._ray.exceptions.RayError as error:
                yield from self._replaced(worker, error)
                continue
            if worker.process is None:
                self._begin(worker, *result)
                continue
            self._in_a_row = 0
            task, worker.task = worker.task, None
            yield Ended(worker.number, task, result)

    def processes(self) -> Sequence[int]:
        """The processes of the workers that are ready, on their machines."""
        return [worker.process for worker in self._workers if worker.process is not None]

    def close(self) -> None:
        """End the workers."""
        for worker in self._workers:
            with suppress(Exception):
                self._ray.kill(worker.actor)
        self._workers, self._pending = [], {}

    def _started(self, number: int) -> _Worker:
        worker = _Worker(number, self._actor.remote())
        self._pending[worker.actor.begin.remote(self._make)] = worker
        return worker

    def _begin(self, worker: _Worker, problem: str, process: int) -> None:
        if problem:
            raise RayError(f"A worker cannot begin: {problem}", code="AD-M42")
        worker.process = process

    def _replaced(self, worker: _Worker, error: Exception) -> Iterator[Ended[_T]]:
        self.lost += 1
        self._in_a_row += 1
        if self._in_a_row >= MOST_IN_A_ROW:
            raise RayError(
                f"Workers of Ray were lost {self._in_a_row} times without a result between them ({_why(error)}). Look "
                "at Ray's logs, and render one clip with animate on such a machine.",
                code="AD-M43",
            )
        with suppress(Exception):
            self._ray.kill(worker.actor)
        task = worker.task
        self._workers[worker.number] = self._started(worker.number)
        if task is not None:
            yield Ended(worker.number, task, is_lost=True)


def _why(error: Exception) -> str:
    """The reason of a loss: an exception in the worker, or what Ray says first."""
    cause = getattr(error, "cause", None) or error
    line = next(iter(str(cause).strip().splitlines()), "")
    return f"{type(cause).__name__}: {line}".rstrip(". :")


class _Actor:
    """The process of a worker."""

    def __init__(self) -> None:
        self._do: Callable[..., Any] | None = None

    def begin(self, make: Callable[[], Callable[..., Any]]) -> tuple[str, int]:
        """Load what tasks need; returns why that is impossible, or an empty text, and the number of this process."""
        from motion_module import AnimateDiffError

        try:
            self._do = make()
        except AnimateDiffError as error:
            return str(error), os.getpid()
        return "", os.getpid()

    def do(self, *arguments: Any) -> Any:
        """Do a task."""
        assert self._do is not None
        return self._do(*arguments)
