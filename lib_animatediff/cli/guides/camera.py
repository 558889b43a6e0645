"""Options of `animate` for CameraCtrl: a camera path, by named moves or by a file of poses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.options import is_given
from lib_animatediff.jobs.recipe import Request
from lib_animatediff.request.camera.choosing import needed_model
from lib_animatediff.request.camera.drawing import draw_path
from lib_animatediff.request.camera.moves import MOVES
from lib_animatediff.request.camera.unit import MOST_STRENGTH, CameraUnit
from lib_animatediff.request.settings import clip_frames
from lib_animatediff.video.atomic import plain_reason
from motion_module import ClipError
from motion_module.camera_ctrl.load import read_camera_ctrl
from motion_module.limits import exists

HEADING = "Camera"
_FILE = click.Path(path_type=Path)
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "camera": (
        "--camera",
        {
            "metavar": "MOVES|FILE",
            "help": f"How the camera moves: {', '.join(MOVES)}, each with a speed, such as 'pan-left 0.5, zoom-in "
            "0.3/s ease-in; 8: static'. Or a file of poses of CameraCtrl or RealEstate10K.",
        },
    ),
    "camera_model": (
        "--camera-model",
        {"type": _FILE, "help": "CameraCtrl model, such as CameraCtrl_pruned.safetensors, for --camera."},
    ),
    "camera_strength": (
        "--camera-strength",
        {
            "default": "1",
            "show_default": True,
            "metavar": "STRENGTH",
            "help": f"Strength of the camera over the frames, such as 0.8 or '0: 1, 12: 0.4', from 0 to "
            f"{MOST_STRENGTH:g}.",
        },
    ),
    "camera_start": (
        "--camera-start",
        {"type": float, "default": 0.0, "show_default": True, "help": "Share of the steps after which it begins."},
    ),
    "camera_end": (
        "--camera-end",
        {"type": float, "default": 1.0, "show_default": True, "help": "Share of the steps after which it ends."},
    ),
    "camera_every": (
        "--camera-every",
        {
            "type": int,
            "default": 1,
            "show_default": True,
            "help": "Take each n-th pose of a file, such as 4 of a video with 30 frames per second.",
        },
    ),
}
DRAWING = "camera_drawing"  # no part of the clip: a file that the command writes, as a contact sheet is
_DRAWING_OPTION = "--camera-drawing"
HEADINGS = dict.fromkeys((*_OPTIONS, DRAWING), HEADING)
OTHER_OPTIONS = {name: option for name, (option, _) in _OPTIONS.items()}


def with_camera_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    command = click.option(
        _DRAWING_OPTION,
        DRAWING,
        type=_FILE,
        help="Also draw the path from above and from the side into this file, .svg or .png.",
    )(command)
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_camera(options: dict[str, Any]) -> CameraUnit | None:
    """Take the options of the camera out of those of a command; None without one.

    Raises:
        AnimateDiffError: a file is missing or another one, a value is malformed, or the options do not fit together.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    text, model = given["camera"], given["camera_model"]
    if text is None:
        if idle := [option for name, option in {**OTHER_OPTIONS, DRAWING: _DRAWING_OPTION}.items() if is_given(name)]:
            raise ClipError(
                f"{', '.join(idle)} would have no effect without a path. Give --camera, such as 'pan-left 0.5'.",
                code="AD-Q99",
            )
        return None
    read_camera_ctrl(needed_model(model, "--camera", "--camera-model"))
    path = _file(text)
    if path is None and is_given("camera_every"):
        raise ClipError("--camera-every has an effect on files of poses only. Leave it out.", code="AD-QA2")
    return CameraUnit(
        model,
        moves="" if path else text,
        file=path,
        every=given["camera_every"],
        weight=given["camera_strength"],
        start=given["camera_start"],
        end=given["camera_end"],
    )


def write_drawing(path: Path, request: Request) -> str:
    """Draw the path of a clip's camera into a file; returns a line about it.

    Raises:
        ClipError: the file cannot be written.
    """
    (unit,) = (each for each in request.controls if isinstance(each, CameraUnit))
    try:
        draw_path(unit.poses(clip_frames(request.settings), request.settings.fps)).write(path)
    except OSError as error:
        raise ClipError(
            f"{path} cannot be written ({plain_reason(error)}). Choose another location.", code="AD-QA3"
        ) from error
    return f"The camera path is drawn in {path.name}."


def _file(text: str) -> Path | None:
    """The file of poses that a text names; None: it is moves."""
    path = Path(text)
    if exists(path):
        return path
    if path.suffix.lower() == ".txt":
        raise ClipError(f"There is no camera file {text}. Check the path.", code="AD-QA4")
    return None
