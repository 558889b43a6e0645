"""WebUIs that render the clips of one queue, each of them one clip at a time."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from lib_animatediff.jobs.many.claims import Claims
from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.outcome import CLAIMED, FAILED, FINISHED, RENDERED, STOPPED, Outcome, stopped_by
from lib_animatediff.jobs.many.queue import Job, JobQueue
from lib_animatediff.video.atomic import plain_reason, write_atomic
from motion_module import AnimateDiffError

from .api import UnreachableError, WebUI, WebUIError
from .finished import FinishedNotes

MOST_TRIES = 3  # of a clip that WebUIs begin and do not finish: it may be what ends them
PAUSE = 15.0  # seconds until a WebUI that did not answer is asked again
PATIENCE = 600.0  # seconds in which no WebUI answers, after which the run ends
_LOOK = 1.0  # seconds


class Clip(Job, Protocol):
    """What a worker needs to know of a clip."""

    @property
    def payload(self) -> dict[str, Any]:
        """The request for it."""

    @property
    def places(self) -> Sequence[Path]:
        """Its files, in the order of the reply."""


C = TypeVar("C", bound=Clip)


@dataclass
class _Worker(Generic[C]):
    """A WebUI, and what it is doing."""

    number: int
    webui: WebUI
    job: C | None = None
    rests_until: float = 0.0


class WebUIWorkers(Generic[C]):
    """A thread for each clip that a WebUI renders.

    Args:
        webuis: each renders one clip at a time. One that several runs use makes them wait.
        folder: of the clips.
        claims: folder of the claims, which all runs on the same clips share.
        say: called with a line about a WebUI that does not answer.
        explain: what users read of an error that nobody expects.
        now: seconds, of a clock that only goes forward.
    """

    def __init__(
        self,
        webuis: Sequence[WebUI],
        folder: Path,
        claims: Path,
        say: Callable[[str], None],
        explain: Callable[[Exception], AnimateDiffError],
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        self._workers: list[_Worker[C]] = [_Worker(number, webui) for number, webui in enumerate(webuis)]
        self._folder, self._say, self._explain, self._now = folder, say, explain, now
        self._claims, self._taking = Claims(claims), threading.Lock()
        self._notes = FinishedNotes(folder)
        self._ended: queue.SimpleQueue[tuple[_Worker[C], Outcome | UnreachableError]] = queue.SimpleQueue()
        self._tries: dict[str, int] = {}
        self._answered = now()

    def check(self) -> None:
        """Ask all WebUIs. Those that do not answer now are asked again later.

        Raises:
            StoppedError: one has no AnimateDiff, or none answers.
        """
        answers = 0
        for worker in self._workers:
            try:
                worker.webui.check()
                answers += 1
            except UnreachableError as error:
                self._rest(worker, error)
            except WebUIError as error:
                raise StoppedError(error.message, code=error.code) from error
        if not answers:
            raise self._silence()

    def work(self, jobs: JobQueue[Any]) -> Iterator[tuple[C, Outcome]]:
        """Each clip of a queue with what became of it, in the order in which they end.

        Raises:
            StoppedError: no WebUI has answered for a long time.
        """
        while len(jobs) or any(worker.job is not None for worker in self._workers):
            for worker in self._workers:
                if worker.job is None and worker.rests_until <= self._now():
                    self._give(worker, jobs)
            try:
                worker, outcome = self._ended.get(timeout=_LOOK)
            except queue.Empty:
                self._check_patience()
                continue
            job, worker.job = worker.job, None
            assert job is not None
            if isinstance(outcome, UnreachableError):
                yield from self._again(worker, job, outcome, jobs)
                continue
            self._answered = self._now()
            if outcome.kind == CLAIMED:
                jobs.try_later(job)
            else:
                yield job, outcome

    def close(self) -> None:
        """Release the claims. A WebUI that is rendering finishes its clip, which nobody keeps."""
        self._claims.close()

    def _give(self, worker: _Worker[C], jobs: JobQueue[Any]) -> None:
        worker.job = jobs.next(worker.number)
        if worker.job is not None:
            # It may wait for hours, and must not keep an interrupted run alive.
            threading.Thread(target=self._render, args=(worker, worker.job), daemon=True).start()

    def _render(self, worker: _Worker[C], job: C) -> None:
        outcome: Outcome | UnreachableError
        try:
            outcome = self._rendered(worker.webui, job)
        except UnreachableError as error:
            outcome = error
        except WebUIError as error:
            outcome = Outcome(FAILED, error.message, error.code)
        except OSError as error:
            end = stopped_by(error, self._folder)
            outcome = (
                Outcome(STOPPED, end.message, end.code)
                if end
                else Outcome(FAILED, f"A file cannot be written: {plain_reason(error)}.", code="AD-M50")
            )
        except Exception as error:  # otherwise the run would wait for this thread for ever
            known = self._explain(error)
            outcome = Outcome(FAILED, known.message, known.code)
        self._ended.put((worker, outcome))

    def _rendered(self, webui: WebUI, job: C) -> Outcome:
        if self._notes.has(job.id, job.places):
            return Outcome(FINISHED)
        with self._taking:
            claim = self._claims.take(job.id)
        if claim is None:
            return Outcome(CLAIMED)
        with claim:
            if self._notes.has(job.id, job.places):  # by the run that has just released it
                return Outcome(FINISHED)
            files = webui.txt2img(job.payload)
            if len(files) != len(job.places):
                raise WebUIError(
                    f"The WebUI at {webui.name} sent {len(files)} files instead of {len(job.places)}. Look at its log.",
                    code="AD-M51",
                )
            for place, data in zip(job.places, files, strict=True):
                write_atomic(place, data)
            self._notes.add(job.id, job.places)
        return Outcome(RENDERED)

    def _again(
        self, worker: _Worker[C], job: C, error: UnreachableError, jobs: JobQueue[Any]
    ) -> Iterator[tuple[C, Outcome]]:
        self._rest(worker, error)
        tries = self._tries[job.id] = self._tries.get(job.id, 0) + error.was_asked
        if tries < MOST_TRIES:
            jobs.give_back(job)
            return
        yield job, Outcome(FAILED, f"It failed {tries} times. {error}. Look at the log of the WebUI.", code="AD-M52")

    def _rest(self, worker: _Worker[C], error: UnreachableError) -> None:
        worker.rests_until = self._now() + PAUSE
        self._say(f"{error}. It is asked again in {PAUSE:.0f} s.")

    def _check_patience(self) -> None:
        if any(worker.job is not None for worker in self._workers):
            self._answered = self._now()
        elif self._now() - self._answered > PATIENCE:
            raise self._silence()

    def _silence(self) -> StoppedError:
        names = ", ".join(worker.webui.name for worker in self._workers)
        return StoppedError(
            f"No WebUI answers ({names}). Start one with --api, and give the same command again.", code="AD-M53"
        )
