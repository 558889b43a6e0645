"""Options of `animate` for PIA, whose file is a motion module with an input for an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.options import is_given
from lib_animatediff.request.control.affinity import AFFINITIES, SMALL
from motion_module import ClipError
from motion_module.files.diffusers_format import find_source
from motion_module.files.weights import read_header
from motion_module.image_input import check_image_input

HEADING = "PIA"
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "pia": (
        "--pia",
        {
            "type": click.Path(path_type=Path),
            "help": "PIA model, such as pia.ckpt: a motion module that moves the image of --image or --key, instead of "
            "--motion.",
        },
    ),
    "pia_motion": (
        "--pia-motion",
        {
            "default": SMALL,
            "show_default": True,
            "metavar": "NAME",
            "help": f"How much moves: {', '.join(AFFINITIES)}. Or how closely each frame follows the image, such as "
            "'1, 0.9, 0.8' or '0: 1, 15: 0.7'.",
        },
    ),
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING)
OTHER_OPTIONS = {"pia_motion": "--pia-motion"}


def with_pia_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_pia(options: dict[str, Any], motions: tuple[str, ...]) -> tuple[Path | None, str]:
    """Take the options of PIA out of those of a command: the model, None if there is none, and its motion.

    Args:
        motions: motion modules that the command was given.

    Raises:
        AnimateDiffError: the file is no PIA model, or the options do not fit together.
    """
    path, name = (options.pop(each) for each in _OPTIONS)
    if path is None:
        if is_given("pia_motion"):
            raise ClipError("--pia-motion would have no effect without a PIA model. Give --pia.", code="AD-Q60")
        return None, name
    source = find_source(path)
    check_image_input(source.name, read_header(source.weights))
    if motions:
        raise ClipError(
            f"{path.name} of --pia is the motion module of the clip. Leave --motion {motions[0]} out.", code="AD-Q61"
        )
    return path, name
