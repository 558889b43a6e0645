"""WebUIs render, each of them one clip at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from lib_animatediff.cli.last_resort import explained
from lib_animatediff.cli.render.clips import ClipJob, Row
from lib_animatediff.cli.render.progress import say
from lib_animatediff.cli.render.renderer import CLAIMS
from lib_animatediff.jobs.api_workers.api import WebUI
from lib_animatediff.jobs.api_workers.finished import FinishedNotes
from lib_animatediff.jobs.api_workers.workers import WebUIWorkers
from lib_animatediff.jobs.many.outcome import Outcome
from lib_animatediff.jobs.many.queue import JobQueue
from motion_module import AnimateDiffError

from .rows import WebUIClip, checked


class WebUICrew:
    """As `Crew`, with WebUIs.

    Args:
        folder: of the clips.
    """

    def __init__(self, webuis: Sequence[WebUI], folder: Path) -> None:
        self._folder, self._notes = folder, FinishedNotes(folder)
        self._workers: WebUIWorkers[WebUIClip] = WebUIWorkers(webuis, folder, folder / CLAIMS, say, explained)

    def check(
        self,
        rows: list[Row],
        refuse: Callable[[Row, AnimateDiffError], None],
        is_reserved: Callable[[Path], bool],
        keep_seeds: bool,
    ) -> Sequence[ClipJob]:
        """The clips of the rows that WebUIs can be asked for. Models are the WebUIs' own, and known to them only."""
        return checked(rows, self._folder, refuse, is_reserved, keep_seeds)

    def is_finished(self, job: ClipJob) -> bool:
        """Whether a clip is there."""
        return self._notes.has(job.id, job.places)

    def outcomes(self, queue: JobQueue[ClipJob]) -> Iterator[tuple[ClipJob, Outcome]]:
        """What became of each clip.

        Raises:
            StoppedError: no WebUI answers, or one has no AnimateDiff.
        """
        self._workers.check()
        yield from self._workers.work(queue)

    def close(self) -> None:
        """Release the claims."""
        self._workers.close()
