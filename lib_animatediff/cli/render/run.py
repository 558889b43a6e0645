"""One run over the clips of a manifest."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click

from lib_animatediff.jobs.many.errors import StoppedError
from lib_animatediff.jobs.many.outcome import FAILED, RENDERED, STOPPED, Outcome
from lib_animatediff.jobs.many.queue import JobQueue
from lib_animatediff.video.atomic import plain_reason
from motion_module import AnimateDiffError

from .api_workers.crew import WebUICrew
from .clips import ClipJob, Row
from .crew import Crew
from .progress import Progress, say
from .results import Results

DONE, SOME_FAILED, NOTHING_RENDERED = 0, 3, 4  # exit codes
_MOST_SAID = 20  # rows that cannot be rendered; failed.jsonl has all of them
_MANY = 200  # clips, whose check takes a while
_OFTEN = 5.0  # seconds between two versions of failed.jsonl


class Run:
    """The clips of one manifest.

    Args:
        rows: what the manifest asks for.
        folder: of the clips.
        crew: renders them.
        results: notes what became of them.
    """

    def __init__(self, rows: list[Row], folder: Path, crew: Crew | WebUICrew, results: Results) -> None:
        self._rows, self._folder, self._crew, self._results = rows, folder, crew, results
        self._failures_written = time.monotonic()
        self._rendered = 0
        self.stopped: StoppedError | None = None  # why it ended early

    def check(self, keep_seeds: bool = True) -> list[ClipJob]:
        """The clips that can be rendered. The others are reported, and written to failed.jsonl.

        Args:
            keep_seeds: whether a random number that is drawn is written down.

        Raises:
            StoppedError: the folder is not writable, or the device does not exist.
        """
        _check_folder(self._folder)
        if len(self._rows) >= _MANY:
            say(f"Checking {len(self._rows)} clips.")
        jobs = list(self._crew.check(self._rows, self._refuse, self._results.is_reserved, keep_seeds))
        self._write_failures()
        return jobs

    def report(self, jobs: list[ClipJob], as_json: bool) -> int:
        """Say what the check has found, without rendering; returns the exit code."""
        say(f"{len(jobs)} clips can be rendered.")
        made = [str(self._results.failures_path)] if self._results.failed else []
        summary = {"valid": len(jobs), "failed": self._results.failed, "folder": str(self._folder), "files": made}
        _print(summary, as_json)
        return self.exit_code(len(jobs))

    def exit_code(self, clips: int) -> int:
        """The exit code, where this many clips are there."""
        if not self._results.failed:
            return DONE
        return SOME_FAILED if clips else NOTHING_RENDERED

    def render(self, jobs: list[ClipJob], as_json: bool) -> int:
        """Render the clips that are not finished; returns the exit code."""
        left = []
        for job in jobs:
            if self._crew.is_finished(job):
                self._results.finish(job)
            else:
                left.append(job)
        skipped = self._results.finished
        say(f"Clips in {self._folder}: {skipped} finished, {len(left)} to render, {self._results.failed} refused.")
        try:
            self.stopped = self._work(left)
        except KeyboardInterrupt:
            self._write_failures()
            say(f"{self._results.finished} clips are finished. The same command continues.")
            raise
        made = self._write_results()
        if self.stopped is not None:
            say(f"Error: {self.stopped} {self._results.finished} of {len(jobs)} clips are finished.")
        summary = {
            "clips": self._results.finished,
            "rendered": self._rendered,
            "skipped": self._results.finished - self._rendered,
            "failed": self._results.failed,
            "folder": str(self._folder),
            "files": made,
        }
        _print(summary, as_json)
        if self.stopped is not None:
            return SOME_FAILED if self._results.finished else NOTHING_RENDERED
        return self.exit_code(self._results.finished)

    def _work(self, jobs: list[ClipJob]) -> StoppedError | None:
        """Render clips; returns why it ended early."""
        if not jobs:
            return None
        progress = Progress(jobs)
        try:
            for job, outcome in self._crew.outcomes(JobQueue(jobs)):
                if outcome.kind == STOPPED:
                    self._crew.close()
                    return StoppedError(outcome.sentence, code=outcome.code)
                self._note(job, outcome, progress)
        except StoppedError as error:
            self._crew.close()  # so that another run begins with new processes
            return error
        return None

    def _note(self, job: ClipJob, outcome: Outcome, progress: Progress) -> None:
        progress.say(job, outcome.lines)
        if outcome.kind == FAILED:
            error = AnimateDiffError(outcome.sentence, code=outcome.code)
            self._results.fail(job, error)
            if time.monotonic() - self._failures_written > _OFTEN:
                self._write_failures()
            progress.end(job, f"Clip {job.number} ({job.place}) failed: {error}", rendered=False)
            return
        self._results.finish(job)
        self._rendered += outcome.kind == RENDERED  # another run may have made it meanwhile
        progress.end(job, job.files[0], rendered=outcome.kind == RENDERED)

    def _refuse(self, row: Row, error: AnimateDiffError) -> None:
        self._results.fail(row, error)
        if self._results.failed <= _MOST_SAID:
            say(f"Clip {row.number} ({row.place}) cannot be rendered: {error}")
        elif self._results.failed == _MOST_SAID + 1:
            say(f"More rows cannot be rendered: {self._results.failures_path} lists them.")

    def _write_failures(self) -> Path | None:
        self._failures_written = time.monotonic()
        fields = {row.number: row.fields for row in self._rows}
        with suppress(OSError):  # a full disk, which the clips report
            return self._results.write_failures(fields.get)
        return None

    def _write_results(self) -> list[str]:
        """The files beside the clips."""
        writers: Sequence[Callable[[], Path | None]] = (
            self._results.write_index,
            self._results.write_sheet,
            self._write_failures,
        )
        made = []
        for write in writers:
            try:
                made.append(write())
            except OSError as error:
                say(f"The index of {self._folder} was not written: {plain_reason(error)}.")
                break
        return [str(path) for path in made if path is not None]


def _print(summary: dict[str, Any], as_json: bool) -> None:
    """The result for programs: an object, or its files."""
    files = "\n".join(summary["files"])
    if as_json or files:
        click.echo(json.dumps(summary) if as_json else files)


def _check_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()  # permissions are not sufficient (read-only mounts, root)
    except OSError as error:
        raise StoppedError(
            f"{folder} cannot be written ({plain_reason(error)}). Choose another folder: --output.", code="AD-M32"
        ) from error
