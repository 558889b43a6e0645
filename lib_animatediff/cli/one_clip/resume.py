"""The command `resume`: go on with a clip that was interrupted."""

from __future__ import annotations

import os
from pathlib import Path

import click

from lib_animatediff.cli.animate import animate
from lib_animatediff.cli.asked import AskedClip
from lib_animatediff.jobs.unfinished import StoredState, identity_of, read_state, state_path
from motion_module import ClipError
from motion_module.limits import is_folder

from .render import Report, render_clip


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def resume(file: Path) -> None:
    """Go on with the clip FILE, whose rendering was interrupted: the same command, from its last state.

    FILE is the file of the clip, or that of its state. The finished clip is the same as without an interruption.
    """
    path = state_path(file).absolute()
    stored = read_state(path)
    if not is_folder(stored.folder):
        raise ClipError(
            f"{path} is the state of a clip in {stored.folder}, which does not exist. Move the clip and its models "
            "back.",
            code="AD-J07",
        )
    os.chdir(stored.folder)  # the paths of the command start there

    def continue_clip(asked: AskedClip, report: Report) -> None:
        _check(path, stored, asked)
        click.echo(f"{stored.state.sampled} steps are finished.", err=True)
        render_clip(asked, report, stored.state)

    with animate.make_context("animate", list(stored.words), obj=continue_clip) as context:
        animate.invoke(context)


def _check(path: Path, stored: StoredState, asked: AskedClip) -> None:
    """Check that the state is that of the clip, beside it: a file from a stranger could name any other.

    Raises:
        ClipError: it is not.
    """
    if state_path(asked.output.resolve()) != path.resolve():
        raise ClipError(
            f"{path} is the state of {asked.output.absolute()}, and lies elsewhere. Move it beside that file.",
            code="AD-J08",
        )
    stored.identity.check(path, identity_of(asked.recipe, asked.request.device))
