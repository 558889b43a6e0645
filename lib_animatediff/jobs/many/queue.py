"""The clips that are still to render, in the order in which models are loaded least often."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, Protocol, TypeVar

RETRY = 2.0  # seconds until a clip that another run has claimed is tried again


class Job(Protocol):
    """What a queue needs to know of a clip."""

    @property
    def id(self) -> str:
        """The same for the same clip."""

    @property
    def models(self) -> str:
        """What its pipeline is loaded from."""


J = TypeVar("J", bound=Job)


class JobQueue(Generic[J]):
    """The clips by their models.

    Args:
        jobs: in their order.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(self, jobs: Iterable[J], now: Callable[[], float] = time.monotonic) -> None:
        self._by_models: dict[str, deque[J]] = {}
        self._later: deque[tuple[float, J]] = deque()
        self._now = now
        self._in_use: dict[object, str] = {}
        for job in jobs:
            self._by_models.setdefault(job.models, deque()).append(job)

    def __len__(self) -> int:
        return sum(map(len, self._by_models.values())) + len(self._later)

    def next(self, worker: object) -> J | None:
        """The next clip for a worker: of the models that it has, else of those that no other one has.

        None: there is none at the moment.
        """
        self._bring_back()
        waiting = [models for models, jobs in self._by_models.items() if jobs]
        if not waiting:
            return None
        own = self._in_use.get(worker)
        others = {models for other, models in self._in_use.items() if other != worker}
        free = [models for models in waiting if models not in others]
        models = own if own in waiting else (free or waiting)[0]
        assert models is not None
        self._in_use[worker] = models
        return self._by_models[models].popleft()

    def give_back(self, job: J) -> None:
        """Render a clip again, as the next one of its models."""
        self._by_models[job.models].appendleft(job)

    def try_later(self, job: J) -> None:
        """Try a clip again after the others."""
        self._later.append((self._now() + RETRY, job))

    def _bring_back(self) -> None:
        while self._later and self._later[0][0] <= self._now():
            _, job = self._later.popleft()
            self._by_models[job.models].append(job)
