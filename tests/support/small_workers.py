"""Workers without models, for the processes of `jobs.many.workers`."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from lib_animatediff.jobs.many.outcome import RENDERED, Outcome
from motion_module import AnimateDiffError


@dataclass(frozen=True)
class Job:
    """A clip that kills its worker until it has been tried often enough."""

    name: str
    deaths: int = 0
    models: str = ""

    @property
    def id(self) -> str:
        return self.name


@dataclass(frozen=True)
class Make:
    """Makes workers that note each try in a folder."""

    folder: Path
    problem: str = ""

    def __call__(self, device: str, workers_there: int):
        if self.problem:
            raise AnimateDiffError(self.problem)

        def render(job: Job) -> Outcome:
            tries = len(list(self.folder.glob(f"{job.name}.*")))
            (self.folder / f"{job.name}.{tries}").write_text(f"{device} {workers_there}")
            if tries < job.deaths:
                os.kill(os.getpid(), signal.SIGKILL)
            return Outcome(RENDERED)

        return render
