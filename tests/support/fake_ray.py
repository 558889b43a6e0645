"""Ray's functions in this process: tasks end in the order that a test chooses, and workers are lost when it says."""

from __future__ import annotations

import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any


class LostError(Exception):
    """As `ray.exceptions.RayActorError`."""


class FakeRay:
    """The module `ray`.

    Args:
        order: of what has ended.
        losses: how many of the tasks, counted from the first, end with their worker.
    """

    def __init__(self, order: random.Random, losses: Callable[[int], bool] = lambda _task: False) -> None:
        self.exceptions = SimpleNamespace(RayError=LostError)
        self._order, self._losses = order, losses
        self._results: dict[int, Any] = {}
        self._lost: set[int] = set()
        self._count = self.tasks = self.actors = 0

    def cluster_resources(self) -> dict[str, float]:
        return {"CPU": 2}

    def remote(self, kind: type) -> Any:
        def start() -> Any:
            self.actors += 1
            return _Actor(self, kind())

        made = SimpleNamespace(remote=start)
        made.options = lambda **_options: made
        return made

    def call(self, run: Callable[..., Any], arguments: tuple[Any, ...], is_task: bool) -> int:
        self._count += 1
        if is_task and self._losses(self.tasks):
            self._lost.add(self._count)
        else:
            self._results[self._count] = run(*arguments)
        self.tasks += is_task
        return self._count

    def wait(self, references: list[int], timeout: float) -> tuple[list[int], list[int]]:
        """Some of them, in any order, as on a real cluster."""
        done = self._order.sample(references, self._order.randint(1, len(references)))
        return done, [one for one in references if one not in done]

    def get(self, reference: int) -> Any:
        if reference in self._lost:
            raise LostError("it is gone")
        return self._results.pop(reference)

    def kill(self, _actor: Any) -> None:
        pass


class _Actor:
    def __init__(self, ray: FakeRay, own: Any) -> None:
        self.begin = SimpleNamespace(remote=lambda *arguments: ray.call(own.begin, arguments, False))
        self.do = SimpleNamespace(remote=lambda *arguments: ray.call(own.do, arguments, True))
