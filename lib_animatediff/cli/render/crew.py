"""Who renders: this process, one process for each device, or the workers of a Ray cluster."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.diffusers.pipeline import check_device
from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.finished import is_finished
from lib_animatediff.jobs.many.outcome import CLAIMED, Outcome
from lib_animatediff.jobs.many.queue import JobQueue
from lib_animatediff.jobs.many.workers import Workers
from lib_animatediff.jobs.ray.clips import RayWorkers
from motion_module import AnimateDiffError

from .clips import ClipJob, Row, checked
from .renderer import MakeRayRenderer, MakeRenderer, Renderer

_Hired = Renderer | Workers[ClipJob] | RayWorkers[ClipJob]
_LOOK = 0.5  # seconds between looks at clips that other runs have claimed


class Crew:
    """Renders the clips of queues, one queue after the other. Models stay loaded between them.

    Args:
        devices: PyTorch's names, one for each process.
        folder: of the clips.
        ray: how many workers of a Ray cluster render instead; None: none.
    """

    def __init__(self, devices: list[str], folder: Path, ray: int | None = None) -> None:
        self._devices, self._folder, self._ray = devices, folder, ray
        self._hired: _Hired | None = None

    def check(
        self,
        rows: list[Row],
        refuse: Callable[[Row, AnimateDiffError], None],
        is_reserved: Callable[[Path], bool],
        keep_seeds: bool,
    ) -> Sequence[ClipJob]:
        """The jobs of the rows that can be rendered; arguments as for `clips.checked`.

        Raises:
            StoppedError: this process renders, and PyTorch cannot compute on its device; or a random seed cannot be
                written down.
        """
        return checked(rows, self._folder, self._checking_device(), refuse, is_reserved, keep_seeds)

    def is_finished(self, job: ClipJob) -> bool:
        """Whether a clip is there."""
        return is_finished(job.places, job.id)

    def _checking_device(self) -> str:
        # Processes of their own check theirs: a card that this process has used keeps memory for it.
        if len(self._devices) > 1 or self._ray:
            return "cpu"
        (device,) = self._devices
        try:
            check_device(device)
        except AnimateDiffError as error:
            raise StoppedError(error.message, code=error.code) from error
        return device

    def outcomes(self, queue: JobQueue[ClipJob]) -> Iterator[tuple[ClipJob, Outcome]]:
        """What became of each clip.

        Raises:
            StoppedError: no process is left.
        """
        if self._hired is None:
            self._hired = self._hire()
        if isinstance(self._hired, Renderer):
            return _one_by_one(queue, self._hired)
        return self._hired.work(queue)

    def close(self) -> None:
        """End the processes."""
        if self._hired is not None:
            self._hired.close()
            self._hired = None

    def _hire(self) -> _Hired:
        if self._ray:
            return RayWorkers(self._ray, MakeRayRenderer(self._folder.absolute(), Path.cwd()))
        if len(self._devices) > 1:
            return Workers(self._devices, MakeRenderer(self._folder))
        return Renderer(self._folder, self._devices[0])


def _one_by_one(queue: JobQueue[ClipJob], renderer: Callable[[Any], Outcome]) -> Iterator[tuple[ClipJob, Outcome]]:
    while len(queue):
        job = queue.next(0)
        if job is None:
            time.sleep(_LOOK)
            continue
        outcome = renderer(job)
        if outcome.kind == CLAIMED:
            queue.try_later(job)
        else:
            yield job, outcome
