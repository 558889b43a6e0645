"""Renders the clips of a manifest in one process."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from lib_animatediff.cli.last_resort import explained
from lib_animatediff.hosts.diffusers.pipeline import check_device, pick_device
from lib_animatediff.jobs.many.claims import Claims
from lib_animatediff.jobs.many.finished import is_finished, job_id
from lib_animatediff.jobs.many.models import Models
from lib_animatediff.jobs.many.outcome import CLAIMED, FAILED, FINISHED, RENDERED, STOPPED, Outcome, stopped_by
from lib_animatediff.jobs.unfinished import UnfinishedClip, found_state, identity_of
from motion_module import ClipError

from .clips import ClipJob, ask

CLAIMS = ".animatediff-claims"  # folder in that of the clips


class Renderer:
    """Renders clips on a device. Models that consecutive clips have in common stay loaded.

    Args:
        folder: of the clips.
    """

    def __init__(self, folder: Path, device: str) -> None:
        self._folder, self._device = folder, device
        self._models, self._claims = Models(), Claims(folder / CLAIMS)

    def __call__(self, job: ClipJob) -> Outcome:
        """Render a clip unless it is finished or another run has claimed it. No error leaves this."""
        try:
            return self._render(job)
        except Exception as error:
            end = stopped_by(error, self._folder)
            if end is not None:
                return Outcome(STOPPED, end.message, end.code)
            known = explained(error)
            return Outcome(FAILED, known.message, known.code)

    def close(self) -> None:
        """Release the claims."""
        self._claims.close()

    def _render(self, job: ClipJob) -> Outcome:
        asked = replace(ask(job.words, self._device), output=Path(job.output))
        if job_id(asked.recipe.data or {}) != job.id:
            raise ClipError(
                "A file of this clip was replaced after the rows were checked. Give the same command again.",
                code="AD-M39",
            )
        if is_finished(asked.places, job.id):
            return Outcome(FINISHED)
        claim = self._claims.take(job.id)
        if claim is None:
            return Outcome(CLAIMED)
        with claim:
            if is_finished(asked.places, job.id):  # by the run that has just released it
                return Outcome(FINISHED)
            ready = self._models.prepare(asked.request)
            lines = asked.notes(ready.plan)
            sound = asked.sound(ready.plan)
            identity = identity_of(asked.recipe, asked.request.device)
            states = UnfinishedClip(
                asked.output,
                identity,
                (*job.words, f"--device={self._device}", f"--output={asked.output}"),
                Path.cwd(),
                found=found_state(asked.output, identity),
                say=lines.append,
            )
            images = ready.render(self._models.pipeline(ready), say=lines.append, states=states)
            asked.write(ready.plan, images, sound)
            states.remove()
        return Outcome(RENDERED, lines=tuple(lines))


class MakeRenderer:
    """Makes the renderer of a worker's process."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __call__(self, device: str, workers_there: int) -> Renderer:
        """The renderer, in a process that shares the device with others."""
        import torch

        check_device(device)
        if torch.device(device).type == "cpu":
            torch.set_num_threads(max(torch.get_num_threads() // workers_there, 1))
        return Renderer(self._folder, device)


class MakeRayRenderer:
    """Makes the renderer of a worker of a Ray cluster.

    Args:
        folder: of the clips, which all machines share.
        start: where paths in the rows start.
    """

    def __init__(self, folder: Path, start: Path) -> None:
        self._folder, self._start = folder, start

    def __call__(self) -> Renderer:
        """The renderer, on the card that Ray gives to this process, or on the CPU."""
        if self._start.is_dir():  # otherwise paths must be absolute
            os.chdir(self._start)
        return Renderer(self._folder, pick_device())
