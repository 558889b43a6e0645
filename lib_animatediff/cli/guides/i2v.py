"""Options of `animate` for AnimateLCM-I2V, whose file is a motion module with an encoder for an image."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.options import AUTO, is_given
from lib_animatediff.request.control.i2v import I2VNames, i2v_unit, refuse_without_i2v
from lib_animatediff.request.control.unit import MOST_DRIFT, MOST_WEIGHT, ControlUnit
from lib_animatediff.request.start.pins import PinnedFrames
from motion_module import ClipError
from motion_module.image_encoder.network import DRIFT

HEADING = "AnimateLCM-I2V"
_NAMES = I2VNames(" of --i2v", "--image", "--image-method", "--i2v")
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "i2v": (
        "--i2v",
        {
            "type": click.Path(path_type=Path),
            "help": "AnimateLCM-I2V model, such as AnimateLCM_sd15_i2v.ckpt: a motion module whose clip begins with "
            "the image of --image, instead of --motion. With --speed fast and its LoRA.",
        },
    ),
    "i2v_drift": (
        "--i2v-drift",
        {
            "type": float,
            "default": DRIFT,
            "show_default": True,
            "help": f"How far the frames move from the image, 0 to {MOST_DRIFT:g}. Lower keeps closer to it.",
        },
    ),
    "i2v_strength": (
        "--i2v-strength",
        {
            "default": "1",
            "show_default": True,
            "metavar": "STRENGTH",
            "help": f"Strength of the image over the frames, such as 0.8 or '0: 1, 12: 0.4', from 0 to "
            f"{MOST_WEIGHT:g}.",
        },
    ),
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING)
OTHER_OPTIONS = {name: option for name, (option, _) in _OPTIONS.items() if name != "i2v"}


def with_i2v_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_i2v(options: dict[str, Any], pins: PinnedFrames | None, motions: tuple[str, ...]) -> ControlUnit | None:
    """Take the options of AnimateLCM-I2V out of those of a command; None without such a model.

    With one, the method of images at frames becomes automatic for what is left.

    Args:
        pins: images at frames; None: there are none.
        motions: motion modules that the command was given.

    Raises:
        AnimateDiffError: the file is no such model, there is not one image at frame 0, or the options do not fit
            together.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    path, asked = given["i2v"], options["image_method"]
    if path is None:
        refuse_without_i2v(asked, _NAMES)
        if idle := [option for name, (option, _) in _OPTIONS.items() if is_given(name)]:
            raise ClipError(
                f"{', '.join(idle)} would have no effect without an AnimateLCM-I2V model. Give --i2v.", code="AD-QC2"
            )
        return None
    if motions:
        raise ClipError(
            f"{path.name} of --i2v is the motion module of the clip. Leave --motion {motions[0]} out.", code="AD-QC3"
        )
    others = [f"{options['pia'].name} of --pia"] if options["pia"] is not None else []
    strength, drift = given["i2v_strength"], given["i2v_drift"]
    unit = i2v_unit(path, pins, asked, options["sparse_ctrl"], strength, drift, _NAMES, others)
    options["image_method"] = AUTO
    return unit


def lines_about(unit: ControlUnit, kind: str | None) -> list[str]:
    """What was chosen, and options without effect.

    Args:
        kind: of the motion module, as given.
    """
    lines = [f"The image goes to {unit.model.name}, since it is given with --i2v."]
    if kind is not None:
        lines.append(f"--kind has no effect, since the motion module is {unit.model.name}.")
    if is_given("image_fit"):
        lines.append(f"--image-fit has no effect on {unit.model.name}, which crops its image to the clip's shape.")
    return lines
