"""Processes that render clips of one queue. One that dies gives its clip back."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, NoReturn, TypeVar

from motion_module import AnimateDiffError

from .errors import StoppedError
from .outcome import CLAIMED, FAILED, Outcome
from .queue import Job, JobQueue

MOST_DEATHS = 5  # of workers in one clip, after which the clip fails
MOST_IN_A_ROW = 20  # deaths of workers without a clip between them, after which the run ends
MOST_STARTS = 3  # of a worker that ends before it is ready, after which there is none in its place
_LOOK = 1.0  # seconds between looks at clips that other runs have claimed
_PATIENCE = 10.0  # seconds that a worker has to end
_INTERRUPTED = 130

J = TypeVar("J", bound=Job)


@dataclass
class _Worker(Generic[J]):
    """A process, its end of the line, and what it is doing."""

    slot: int
    process: Any
    line: Connection
    device: str
    starts: int
    is_ready: bool = False
    problem: str = ""
    job: J | None = None


class Workers(Generic[J]):
    """A process for each device.

    Args:
        devices: PyTorch's names; one that occurs twice has two processes.
        make: called in each process with its device and the number of processes on that device; returns what renders
            a clip. It is a function at the top of a module, since it goes to other processes.
    """

    def __init__(self, devices: Sequence[str], make: Callable[[str, int], Callable[[J], Outcome]]) -> None:
        self._make, self._shares = make, {device: devices.count(device) for device in devices}
        self._context = multiprocessing.get_context("spawn")  # CUDA cannot be used after a fork
        self._workers: list[_Worker[J]] = [self._started(slot, device, 1) for slot, device in enumerate(devices)]
        self._deaths: dict[str, int] = {}  # by the ids of clips
        self._in_a_row = 0
        self._broken = ""

    def work(self, queue: JobQueue[Any]) -> Iterator[tuple[J, Outcome]]:
        """Each clip of a queue with what became of it, in the order in which they end.

        Raises:
            StoppedError: no worker is left.
        """
        while len(queue) or any(worker.job is not None for worker in self._workers):
            self._check_alive()
            for worker in self._workers:
                if worker.is_ready and worker.job is None:
                    self._give(worker, queue)
            for job, outcome in self._heard(queue):
                if outcome.kind == CLAIMED:
                    queue.try_later(job)
                    continue
                self._deaths.pop(job.id, None)
                yield job, outcome

    def close(self) -> None:
        """End the processes. One that is rendering removes its unfinished file."""
        for worker in self._workers:
            worker.line.close()
            worker.process.terminate()
        for worker in self._workers:
            worker.process.join(_PATIENCE)
            if worker.process.is_alive():
                worker.process.kill()
                worker.process.join()
        self._workers = []

    def _check_alive(self) -> None:
        if not self._workers:
            raise StoppedError(
                f"No worker could be started ({self._broken}). Check --devices, and render one clip with animate.",
                code="AD-M30",
            )
        if self._in_a_row >= MOST_IN_A_ROW:
            raise StoppedError(
                f"Workers died {self._in_a_row} times without a clip between them. Use fewer workers, and render one "
                "clip with animate.",
                code="AD-M33",
            )

    def _started(self, slot: int, device: str, starts: int) -> _Worker[J]:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=_serve, args=(theirs, self._make, device, self._shares[device]))
        process.daemon = True  # it ends with us, even after an error here
        process.start()
        theirs.close()  # so that the line ends with the process
        return _Worker(slot, process, ours, device, starts)

    def _give(self, worker: _Worker[J], queue: JobQueue[Any]) -> None:
        job = queue.next(worker.slot)
        if job is None:
            return
        worker.job = job
        with suppress(OSError):  # it has just died, which `_heard` will notice
            worker.line.send(job)

    def _heard(self, queue: JobQueue[Any]) -> Iterator[tuple[J, Outcome]]:
        """What workers have to say, for which this waits a while."""
        by_line = {worker.line: worker for worker in self._workers}
        for line in wait(list(by_line), timeout=_LOOK):
            worker = by_line[line]  # type: ignore[index]
            try:
                said = worker.line.recv()
            except (EOFError, OSError):
                yield from self._died(worker, queue)
                continue
            if not worker.is_ready:
                self._begin(worker, said)
                continue
            self._in_a_row = 0
            job, worker.job = worker.job, None
            assert job is not None
            yield job, said

    def _begin(self, worker: _Worker[J], problem: str) -> None:
        """Note that a worker is ready, or why it never will be."""
        worker.is_ready, worker.starts = not problem, MOST_STARTS if problem else 1
        worker.problem = problem

    def _died(self, worker: _Worker[J], queue: JobQueue[Any]) -> Iterator[tuple[J, Outcome]]:
        worker.line.close()
        worker.process.join()
        self._in_a_row += 1
        place = self._workers.index(worker)
        # One that was killed says nothing about the next one: `MOST_IN_A_ROW` counts these.
        failed = not worker.is_ready and not _was_killed(worker.process.exitcode)
        starts = worker.starts + 1 if failed else 1
        if starts <= MOST_STARTS:
            self._workers[place] = self._started(worker.slot, worker.device, starts)
        else:
            self._broken = worker.problem or f"{worker.device}: {_how(worker.process.exitcode)}"
            del self._workers[place]
        if worker.job is not None:
            yield from self._given_back(worker.job, worker.process.exitcode, queue)

    def _given_back(self, job: J, status: int | None, queue: JobQueue[Any]) -> Iterator[tuple[J, Outcome]]:
        deaths = self._deaths[job.id] = self._deaths.get(job.id, 0) + 1
        if deaths < MOST_DEATHS:
            queue.give_back(job)
            return
        sentence = (
            f"Its worker died {deaths} times ({_how(status)}). It may need more memory than there is: lower the size, "
            "the number of frames or the context length, or use fewer workers."
        )
        yield job, Outcome(FAILED, sentence, code="AD-M31")


def _was_killed(status: int | None) -> bool:
    return status is not None and status < 0


def _how(status: int | None) -> str:
    """How a process has ended."""
    if status is not None and _was_killed(status):
        with suppress(ValueError):
            return signal.Signals(-status).name
    return f"exit code {status}"


def _serve(
    line: Connection, make: Callable[[str, int], Callable[[Any], Outcome]], device: str, workers_there: int
) -> None:
    """A worker's process: renders what comes down the line, until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C reaches us too; our parent decides
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        try:
            render = make(device, workers_there)
        except AnimateDiffError as error:
            line.send(error.message.rstrip("."))
            return
        line.send("")
        while True:
            line.send(render(line.recv()))
    except (EOFError, BrokenPipeError, ConnectionResetError):  # our parent has ended
        return
    except KeyboardInterrupt:
        sys.exit(_INTERRUPTED)


def _interrupt(*_: Any) -> NoReturn:
    raise KeyboardInterrupt
