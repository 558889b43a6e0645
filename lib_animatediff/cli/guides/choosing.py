"""Options of `animate` for SparseCtrl, and the choice of what images at frames are used for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from lib_animatediff.builtin_model import built_in
from lib_animatediff.cli.options import frame_and_file, is_given
from lib_animatediff.cli.start.images_in import ImagesIn
from lib_animatediff.engine.components.sparse_ctrl import NEAREST, WITHOUT_KEY
from lib_animatediff.request.control.guides import AUTO, I2V, IMAGE_METHODS, PIA, AskedGuides, GuideNames, choose_guides
from lib_animatediff.request.control.unit import MOST_WEIGHT, AnyUnit
from lib_animatediff.request.settings import clip_frames, parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from motion_module import ClipError
from motion_module.limits import exists

from . import camera, i2v, pia

HEADING = "SparseCtrl"
_NAMES = GuideNames(
    sparse_ctrl="--sparse-ctrl",
    scribble="--scribble",
    drawing="0:drawing.png",
    images="--image, --last or --key",
    one_image="--image, or --key for another frame",
    image_method="--image-method",
    pia="--pia",
    of_pia=" of --pia",
    pia_motion="--pia-motion",
)
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "sparse_ctrl": (
        "--sparse-ctrl",
        {
            "multiple": True,
            "type": click.Path(path_type=Path),
            "help": "SparseCtrl encoder, such as v3_sd15_sparsectrl_rgb.ckpt: it carries the images of --image, --last "
            "and --key to the other frames; pocket is the built-in one. One for scribbles reads --scribble. May be "
            "repeated.",
        },
    ),
    "scribbles": (
        "--scribble",
        {
            "multiple": True,
            "metavar": "FRAME:FILE",
            "help": "Drawing at frame FRAME for a SparseCtrl encoder for scribbles: white lines on black. May be "
            "repeated.",
        },
    ),
    "sparse_strength": (
        "--sparse-strength",
        {
            "default": "1",
            "show_default": True,
            "metavar": "STRENGTH",
            "help": f"Strength of SparseCtrl over the frames, such as 0.8 or '0: 1, 12: 0.4', from 0 to "
            f"{MOST_WEIGHT:g}.",
        },
    ),
    "sparse_start": (
        "--sparse-start",
        {
            "type": float,
            "default": 0.0,
            "show_default": True,
            "help": "Share of the steps after which SparseCtrl begins.",
        },
    ),
    "sparse_end": (
        "--sparse-end",
        {
            "type": float,
            "default": 1.0,
            "show_default": True,
            "help": "Share of the steps after which SparseCtrl ends. Below 1 the images flash less.",
        },
    ),
    "sparse_without_key": (
        "--sparse-without-key",
        {
            "type": click.Choice(WITHOUT_KEY),
            "default": NEAREST,
            "show_default": True,
            "help": "What a context window without an image has: the nearest image at its end, or no SparseCtrl.",
        },
    ),
    "sparse_colour_match": (
        "--sparse-colour-match",
        {
            "type": click.FloatRange(0, 1),
            "default": 0.0,
            "show_default": True,
            "help": "How far colours and contrast of all frames move towards those of the images, against a flash at "
            "frames with images.",
        },
    ),
    "image_method": (
        "--image-method",
        {
            "type": click.Choice(IMAGE_METHODS),
            "default": AUTO,
            "show_default": True,
            "help": "What images at frames are used for. pins: their frames equal them. sparse-ctrl: the encoder "
            "carries them to all frames. auto: the method whose file is given, or pins.",
        },
    ),
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING) | pia.HEADINGS | i2v.HEADINGS | camera.HEADINGS
# The settings of the table that have an option of their own here.
OTHER_OPTIONS = {name: option for name, (option, _) in _OPTIONS.items()}
OTHER_OPTIONS |= pia.OTHER_OPTIONS | i2v.OTHER_OPTIONS | camera.OTHER_OPTIONS
_OF_PINS = {"pin_strength": "--pin-strength", "pin_inversion": "--pin-inversion"}


@dataclass(frozen=True)
class Guides:
    """What the images of a clip are used for.

    Attributes:
        motions: motion modules, as the command was given them, or the PIA or AnimateLCM-I2V model.
        kind: of the first one; None: its file tells.
        units: SparseCtrl encoders, a PIA or an AnimateLCM-I2V model with their images, and a camera.
        pins: frames that equal their images; None: none do.
        lines: what was chosen, and why.
    """

    motions: tuple[str, ...] = ()
    kind: str | None = None
    units: tuple[AnyUnit, ...] = ()
    pins: PinnedFrames | None = None
    lines: tuple[str, ...] = ()


def with_guide_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    command = pia.with_pia_options(i2v.with_i2v_options(camera.with_camera_options(command)))
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_guides(options: dict[str, Any], images: ImagesIn | None, motions: tuple[str, ...], kind: str | None) -> Guides:
    """Take the options of models that images and a camera steer out of those of a command; choose what images are for.

    Args:
        options: of the command that runs.
        images: at frames; None: there are none.
        motions: motion modules, as given.
        kind: of the first one, as given.

    Raises:
        AnimateDiffError: a file is no SparseCtrl encoder, a value is malformed, or the options do not fit together.
    """
    if images is not None and images.pins is None:  # they fade in the initial latents
        images = None
    frames = clip_frames(parse_settings({"frames": options["frames"], "context_length": options["context_length"]}))
    filmed = camera.take_camera(options)
    begun = i2v.take_i2v(options, images.pins if images else None, motions)
    if begun is not None:  # it has the image to itself
        images = None
    pins = images.pins if images else None
    model, motion = pia.take_pia(options, motions)
    given = {name: options.pop(name) for name in _OPTIONS}
    given["sparse_ctrl"] = tuple(map(_file, given["sparse_ctrl"]))
    idle = [option for name, (option, _) in _OPTIONS.items() if name != "image_method" and is_given(name)]
    if not given["sparse_ctrl"] and idle:
        raise ClipError(
            f"{', '.join(idle)} would have no effect without an encoder. Give --sparse-ctrl.", code="AD-Q30"
        )
    drawings = tuple(map(_drawing, given["scribbles"]))
    asked = AskedGuides(
        given["sparse_ctrl"],
        drawings,
        given["sparse_strength"],
        given["sparse_start"],
        given["sparse_end"],
        given["sparse_without_key"],
        given["sparse_colour_match"],
        given["image_method"],
        model,
        motion,
    )
    chosen = choose_guides(asked, pins, frames, _NAMES, is_continued=images is not None and images.is_continued)
    lines = list(chosen.lines)
    if chosen.pins is None and (idle := [option for name, option in _OF_PINS.items() if is_given(name)]):
        lines.append(f"{', '.join(idle)} has no effect, since the images are not pinned.")
    if is_given("image_fit") and any(unit.keys != drawings for unit in chosen.units):
        lines.append("--image-fit has no effect on SparseCtrl and PIA, which crop their images to the clip's shape.")
    if model is not None:
        if kind is not None:
            lines.append(f"--kind has no effect, since the motion module is {model.name}.")
        motions, kind = (str(model),), PIA
    units: tuple[AnyUnit, ...] = chosen.units
    if begun is not None:
        lines += i2v.lines_about(begun, kind)
        motions, kind, units = (str(begun.model),), I2V, (begun, *units)
    further = () if filmed is None else (filmed,)
    return Guides(motions, kind, (*units, *further), chosen.pins, tuple(lines))


def _file(path: Path) -> Path:
    """The file of an encoder; that of a built-in model by the model's name."""
    model = built_in(path)
    return model.folder / model.sparse_ctrl if model and model.sparse_ctrl else path


def _drawing(text: str) -> Pin:
    pin = frame_and_file(text)
    if pin is None:
        raise ClipError(f"--scribble {text} is not valid. Write FRAME:FILE, such as 0:drawing.png.", code="AD-Q38")
    if not exists(pin.path):
        raise ClipError(f"There is no drawing {pin.path}. Check the path.", code="AD-Q39")
    return pin
