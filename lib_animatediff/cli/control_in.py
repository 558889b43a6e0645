"""Options of `animate` for control models, which steer a clip frame by frame."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from lib_animatediff.builtin_model import built_in
from lib_animatediff.request.control.unit import FILLS, HOLD, MOST_WEIGHT, REACH, ControlUnit
from lib_animatediff.request.start.pins import Pin
from lib_animatediff.request.start.taken_over import VideoIn
from lib_animatediff.video.preprocess import NONE, PREPROCESSORS
from lib_animatediff.video.source import Source
from motion_module import ClipError
from motion_module.limits import exists

from .options import frame_and_file, is_given

HEADING = "Control models"
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "controls": (
        "--control",
        {
            "multiple": True,
            "metavar": "PREPROCESSOR[:SOURCE]",
            "help": f"Images that steer the clip: a video, folder, pattern or image, one image per frame, through "
            f"{', '.join(PREPROCESSORS)}. Without SOURCE: --control-key or --video. May be repeated.",
        },
    ),
    "control_models": (
        "--control-model",
        {
            "multiple": True,
            "metavar": "FILE[:WEIGHT]",
            "help": "ControlNet or T2I adapter for the --control at the same place; pocket is the built-in one. May be "
            "repeated.",
        },
    ),
    "control_weights": (
        "--control-weight",
        {
            "multiple": True,
            "metavar": "WEIGHT",
            "help": f"Strength over the frames, such as 0.8 or '0: 1, 12: 0.4', from 0 to {MOST_WEIGHT:g}. Default: 1. "
            "One for all control models, or one for each.",
        },
    ),
    "control_starts": (
        "--control-start",
        {
            "multiple": True,
            "metavar": "SHARE",
            "help": "Share of the steps after which control begins, such as 0.2 or, over the frames, '0: 0, 12: 0.4'. "
            "Default: 0.",
        },
    ),
    "control_ends": (
        "--control-end",
        {
            "multiple": True,
            "metavar": "SHARE",
            "help": "Share of the steps after which control ends, as for --control-start. Default: 1.",
        },
    ),
    "control_fits": (
        "--control-fit",
        {
            "type": click.Choice(FILLS),
            "multiple": True,
            "help": "For fewer images than frames: hold the last one, stretch them over the clip, loop them, or "
            f"refuse. Default: {HOLD}.",
        },
    ),
    "control_masks": (
        "--control-mask",
        {
            "multiple": True,
            "metavar": "SOURCE",
            "help": "White where control acts: an image for all frames, or a video or folder with one per frame. One "
            "for all control models, or one for each.",
        },
    ),
    "control_keys": (
        "--control-key",
        {
            "multiple": True,
            "metavar": "FRAME:FILE",
            "help": "Image for a --control without SOURCE at a frame, from 0; the weight falls with the distance. May "
            "be repeated.",
        },
    ),
    "control_reach": (
        "--control-reach",
        {
            "type": int,
            "default": REACH,
            "show_default": True,
            "help": "Frames from an image of --control-key to the first one that it does not change.",
        },
    ),
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING)
# The settings of the table about units of the WebUI, with the options that do the same here.
OTHER_OPTIONS = {
    "control_images": "--control",
    "control_weight": "--control-weight",
    "control_fill": "--control-fit",
    "control_start": "--control-start",
    "control_end": "--control-end",
    "control_masks": "--control-mask",
    "control_reach": "--control-reach",
}


def with_control_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_controls(options: dict[str, Any], video: VideoIn | None) -> tuple[ControlUnit, ...]:
    """Take the options of control models out of those of a command.

    Args:
        options: of the command that runs.
        video: the clip's source video, which serves a control without a source; None: there is none.

    Raises:
        ClipError: a value is malformed or out of range, or the options do not fit together.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    sources, models = given["controls"], given["control_models"]
    if not sources and not models:
        if idle := [option for name, (option, _) in _OPTIONS.items() if is_given(name)]:
            raise ClipError(
                f"{', '.join(idle)} would have no effect without a control model. Give --control and --control-model.",
                code="AD-H25",
            )
        return ()
    count = len(models)
    if len(sources) != count:
        raise ClipError(
            f"The numbers of --control ({len(sources)}) and --control-model ({count}) differ. Give both for each "
            "control model.",
            code="AD-H26",
        )
    keys = tuple(map(_key, given["control_keys"]))
    weights, starts, ends, fits, masks = (
        _for_each(_OPTIONS[name][0], given[name], default, count)
        for name, default in (
            ("control_weights", None),
            ("control_starts", 0.0),
            ("control_ends", 1.0),
            ("control_fits", HOLD),
            ("control_masks", None),
        )
    )
    units = []
    for number, text in enumerate(sources):
        preprocessor, path = _control(text)
        own_keys = keys if path is None else ()
        model, weight = _model(models[number], weights[number])
        source = None if own_keys else _source(text, path, video)
        units.append(
            ControlUnit(
                model,
                source,
                own_keys,
                preprocessor,
                weight,
                share(starts[number]),
                share(ends[number]),
                fits[number],
                given["control_reach"],
                mask=None if masks[number] is None else Source(Path(masks[number])),
            )
        )
    if (keys or is_given("control_reach")) and not any(unit.keys for unit in units):
        raise ClipError(
            "--control-key and --control-reach have an effect together, for a --control without a source. Write "
            "--control canny --control-key 8:c.png.",
            code="AD-H27",
        )
    return tuple(units)


def share(given: float | str) -> float | str:
    """A start or an end: a number, or text with one for each frame."""
    return float(given) if isinstance(given, str) and _is_number(given) else given


def _control(text: str) -> tuple[str, str | None]:
    """The preprocessor and the path, if there is one, of ``canny:video.mp4``, ``canny`` or ``video.mp4``."""
    name, colon, path = text.partition(":")
    if name in PREPROCESSORS:
        return name, path if colon else None
    if exists(Path(text)):
        return NONE, text
    raise ClipError(
        f"--control {text} names neither a preprocessor nor an existing source. Write PREPROCESSOR:SOURCE, such as "
        f"canny:video.mp4, with one of {', '.join(PREPROCESSORS)}.",
        code="AD-H28",
    )


def _source(text: str, path: str | None, video: VideoIn | None) -> Source:
    if path:
        return Source(Path(path))
    if path is None and video is not None:
        return video.start.source
    raise ClipError(f"--control {text} has no images. Write {text.rstrip(':')}:SOURCE, or give --video.", code="AD-H29")


def _model(text: str, weight: str | None) -> tuple[Path, str]:
    """``FILE`` or ``FILE:WEIGHT``, with the weight of ``--control-weight``."""
    name, colon, own = text.rpartition(":")
    if not colon or not name or exists(Path(text)) or not _is_number(own):
        return _file(text), weight or "1"
    if weight is not None:
        raise ClipError(
            f"--control-model {text} has a weight, and so has --control-weight. Remove one of them.", code="AD-H30"
        )
    return _file(name), own.strip()


def _file(name: str) -> Path:
    """The file of a control model; that of a built-in model by the model's name."""
    model = built_in(Path(name))
    return model.folder / model.control if model and model.control else Path(name)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _key(text: str) -> Pin:
    pin = frame_and_file(text)
    if pin is None:
        raise ClipError(f"--control-key {text} is not valid. Write FRAME:FILE, such as 8:c.png.", code="AD-H31")
    if not exists(pin.path):
        raise ClipError(f"There is no image {pin.path} for --control-key. Check the path.", code="AD-H33")
    return pin


def _for_each(option: str, values: Sequence[Any], default: Any, count: int) -> list[Any]:
    """The value of each control model: one for all of them, or one for each."""
    if len(values) > 1 and len(values) != count:
        raise ClipError(
            f"There are {len(values)} {option} for {count} control models. Give one for all, or one for each.",
            code="AD-H32",
        )
    return list(values) if len(values) > 1 else [*(values or (default,))] * count
