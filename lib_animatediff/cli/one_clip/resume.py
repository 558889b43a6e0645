"""The command `resume`: go on with a clip that was interrupted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from lib_animatediff.cli.animate import animate
from lib_animatediff.cli.asked import AskedClip
from lib_animatediff.jobs.unfinished import identity_of, read_state, state_path
from motion_module import ClipError
from motion_module.limits import exists, is_folder

from .render import Report, render_clip

_FILE = click.Path(path_type=Path)


@click.command()
@click.argument("file", type=_FILE)
@click.option(
    "--contact-sheet", type=_FILE, help="Also write all frames in a grid, as a PNG. Default: as the command asked for."
)
def resume(file: Path, contact_sheet: Path | None) -> None:
    """Go on with the clip FILE, whose rendering was interrupted: the same command, from its last state.

    FILE is the file of the clip, or that of its state. The finished clip is the same as without an interruption.
    """
    path = state_path(file).absolute()
    sheet = None if contact_sheet is None else contact_sheet.absolute()
    stored = read_state(path)
    if not is_folder(stored.folder):
        raise ClipError(
            f"{path} is the state of a clip in {stored.folder}, which does not exist. Move the clip and its models "
            "back.",
            code="AD-J07",
        )
    os.chdir(stored.folder)  # the paths of the command start there

    def continue_clip(asked: AskedClip, report: Report) -> None:
        _check_place(path, asked)
        _check_replaced(path, asked, None if sheet else report.contact_sheet)
        stored.identity.check(path, identity_of(asked.recipe, asked.request.device))
        click.echo(f"{stored.state.sampled} steps are finished.", err=True)
        # The path of the camera was drawn when the clip was begun.
        shown = replace(report, contact_sheet=sheet or report.contact_sheet, camera_drawing=None)
        render_clip(asked, shown, stored.state)

    with animate.make_context("animate", list(stored.words), obj=continue_clip) as context:
        animate.invoke(context)


def _check_place(path: Path, asked: AskedClip) -> None:
    """Check that a state is beside its clip: a file from a stranger could name any other.

    Raises:
        ClipError: it is not.
    """
    if state_path(asked.output).resolve() != path.resolve():
        raise ClipError(
            f"{path} is the state of {asked.output.absolute()}, and is not beside that file. Move it there.",
            code="AD-J08",
        )


def _check_replaced(path: Path, asked: AskedClip, sheet: Path | None) -> None:
    """Check that the command of a state replaces nothing that its user may not expect: it can be a stranger's.

    Args:
        sheet: a contact sheet that the command asks for.

    Raises:
        ClipError: it would replace a folder, or write a contact sheet elsewhere or over another file.
    """
    if folders := [place for place in asked.places if is_folder(place)]:
        raise ClipError(
            f"{path} would replace the folder {folders[0].absolute()}. Rename or remove the folder first.",
            code="AD-J10",
        )
    if sheet and (exists(sheet) or sheet.resolve().parent != path.resolve().parent):
        raise ClipError(
            f"{path} would write the contact sheet {sheet.absolute()}. If you want that, add --contact-sheet and the "
            "path.",
            code="AD-J11",
        )
