"""Whole clips on a Ray cluster: an actor holds the models, and takes the clips of a queue."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.outcome import CLAIMED, FAILED, Outcome
from lib_animatediff.jobs.many.queue import Job, JobQueue
from lib_animatediff.jobs.many.workers import MOST_DEATHS

from .cluster import RayError
from .pool import Pool

_LOOK = 1.0  # seconds
J = TypeVar("J", bound=Job)


class RayWorkers(Generic[J]):
    """Renders the clips of queues, as `Workers`, on the machines of a cluster.

    Args:
        count: of workers.
        make: called in each worker; returns what renders a clip.

    Raises:
        StoppedError: there is no cluster.
    """

    def __init__(self, count: int, make: Callable[[], Callable[[J], Outcome]]) -> None:
        try:
            self._pool: Pool[J] = Pool(count, make)
        except RayError as error:
            raise StoppedError(error.message, code=error.code) from error
        self._deaths: dict[str, int] = {}

    def work(self, queue: JobQueue[Any]) -> Iterator[tuple[J, Outcome]]:
        """Each clip of a queue with what became of it, in the order in which they end.

        Raises:
            StoppedError: no worker can render.
        """
        while len(queue) or not self._pool.is_idle:
            for number in self._pool.free():
                job = queue.next(number)
                if job is None:
                    break
                self._pool.give(number, job, job)
            try:
                ended = list(self._pool.ended(_LOOK))
            except RayError as error:
                raise StoppedError(error.message, code=error.code) from error
            for one in ended:
                if one.is_lost:
                    yield from self._given_back(one.task, queue)
                elif one.result.kind == CLAIMED:
                    queue.try_later(one.task)
                else:
                    yield one.task, one.result

    def close(self) -> None:
        """End the workers."""
        self._pool.close()

    def _given_back(self, job: J, queue: JobQueue[Any]) -> Iterator[tuple[J, Outcome]]:
        deaths = self._deaths[job.id] = self._deaths.get(job.id, 0) + 1
        if deaths < MOST_DEATHS:
            queue.give_back(job)
            return
        sentence = (
            f"{deaths} workers were lost while they rendered it. It may need more memory than they have: lower the "
            "size, the number of frames or the context length."
        )
        yield job, Outcome(FAILED, sentence, code="AD-M45")
