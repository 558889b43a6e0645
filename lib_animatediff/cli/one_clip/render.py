"""Renders the clip that options of `animate` ask for, and says what was made."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.asked import AskedClip
from lib_animatediff.cli.guides.camera import write_drawing
from lib_animatediff.cli.options import say_device
from lib_animatediff.hosts.diffusers.start.resuming import SamplingState
from lib_animatediff.jobs.ray.windows import RayWindows
from lib_animatediff.jobs.recipe import Ready, prepare
from lib_animatediff.jobs.unfinished import UnfinishedClip, identity_of
from lib_animatediff.video import write_contact_sheet
from motion_module import ClipError
from motion_module.limits import check_replaceable, exists, is_folder


@dataclass(frozen=True)
class Report:
    """What the command prints and writes beside the clip.

    Attributes:
        device: as given.
        contact_sheet: file with all frames.
        as_json: whether the result is printed as JSON.
        words: the options that ask for the clip, with the seed that was drawn.
        ray: workers of a Ray cluster that compute the context windows; None: this process does.
        camera_drawing: file with a drawing of the camera's path.
    """

    device: str
    contact_sheet: Path | None
    as_json: bool
    words: tuple[str, ...]
    ray: int | None = None
    camera_drawing: Path | None = None


Take = Callable[[AskedClip, Report], Any]
"""What happens to the clip that `animate` is asked for."""


def render_clip(asked: AskedClip, report: Report, found: SamplingState | None = None) -> None:
    """Render a clip.

    Args:
        found: the state from which its sampling goes on; None: it begins.

    Raises:
        AnimateDiffError: a file cannot be read or written, or memory ran out.
    """
    sheet = report.contact_sheet
    if sheet and sheet.suffix.lower() != ".png":
        raise ClipError(f"{sheet}: contact sheets are PNG files. Choose a name that ends in .png.", code="AD-K03")
    for place in (*asked.places, *filter(None, [sheet])):
        check_output(place)
    if report.camera_drawing:
        click.echo(write_drawing(report.camera_drawing, asked.request), err=True)
    ready = prepare(asked.request)
    sound = asked.sound(ready.plan)
    say_device(report.device)
    for line in asked.notes(ready.plan):
        click.echo(line, err=True)
    reports: list[str] = []
    states = UnfinishedClip(
        asked.output,
        identity_of(asked.recipe, asked.request.device),
        report.words,
        Path.cwd(),
        found=found,
        say=reports.append,
    )
    if found is None and exists(states.path):
        click.echo(f"This run replaces one that was interrupted. To continue that one: {_resume(asked)}", err=True)
    with _saying_how_to_resume(asked, states):
        _render_and_write(asked, report, ready, sound, states, reports)
    states.remove()


@contextmanager
def _saying_how_to_resume(asked: AskedClip, states: UnfinishedClip) -> Iterator[None]:
    try:
        yield
    except BaseException:
        if states.is_kept:
            click.echo(f"The clip is not finished. To continue it: {_resume(asked)}", err=True)
        raise


def _resume(asked: AskedClip) -> str:
    words = ["python", "-m", "lib_animatediff", "resume", str(asked.output)]
    return subprocess.list2cmdline(words) if os.name == "nt" else shlex.join(words)


def _render_and_write(
    asked: AskedClip, report: Report, ready: Ready, sound: Any, states: UnfinishedClip, reports: list[str]
) -> None:
    request, settings, given = asked.request, asked.request.settings, asked.images
    begun = time.monotonic()
    pipeline = ready.load()
    with (
        _workers(ready, report.ray, reports.append) as elsewhere,
        click.progressbar(length=ready.steps, label="Sampling", file=sys.stderr) as bar,
    ):
        images = ready.render(pipeline, lambda: bar.update(1), reports.append, states, elsewhere)
    seam = given.seam(images) if given and request.pins else None
    if seam is not None:
        reports.append(f"The largest change beside a pinned frame is {seam:.1f} times the clip's usual one.")
    for line in reports:
        click.echo(line, err=True)
    output_plan = ready.plan.output
    written, shown = asked.write(ready.plan, images, sound)
    made = {
        "clip": str(written[0]),
        "clips": [str(path) for path in written],
        "prompt": request.prompt,
        "seed": request.seed,
        "frames": len(images),
        "fps": settings.fps,
        "shown_frames": len(shown),
        "shown_fps": float(output_plan.shown_fps),
        "size": ready.size,
        **({} if seam is None else {"seam": round(seam, 3)}),
    }
    if report.contact_sheet:
        with _writing(report.contact_sheet):
            write_contact_sheet(report.contact_sheet, images)
        made["contact_sheet"] = str(report.contact_sheet)
    width, height = ready.size
    count, fps = len(shown), float(output_plan.shown_fps)
    done = "Rendered" if output_plan.interpolation is None else f"Rendered {len(images)} and interpolated to"
    click.echo(
        f"{done} {count} frame{'s' * (count > 1)} of {width}x{height}, {count / fps:.1f} s at {fps:g} frames per "
        f"second, in {time.monotonic() - begun:.0f} s: {', '.join(map(str, written))}",
        err=True,
    )
    paths = "\n".join(map(str, filter(None, [*written, report.contact_sheet])))
    click.echo(json.dumps(made) if report.as_json else paths)


@contextmanager
def _workers(ready: Ready, count: int | None, say: Callable[[str], None]) -> Iterator[RayWindows | None]:
    """The workers that compute the context windows; None: this process does."""
    if count is None:
        yield None
        return
    with closing(RayWindows(ready, count)) as workers:
        yield workers
        say(workers.report)


def check_output(output: Path) -> None:
    """Check that a file can be written.

    Raises:
        ClipError: its folder is read-only, or the name is that of a folder.
    """
    if is_folder(output) and output.suffix:
        raise ClipError(f"{output} is a folder. Choose another name.", code="AD-K08")
    with _writing(output):
        check_replaceable(output)
        output.parent.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=output.parent).close()  # permissions are not sufficient (read-only mounts, root)


@contextmanager
def _writing(output: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ClipError(
            f"{output} cannot be written ({error.strerror}). Choose another folder.", code="AD-K09"
        ) from error
