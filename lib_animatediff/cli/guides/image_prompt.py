"""Options of `animate` for an IP-Adapter, which reads images as a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.control_in import share
from lib_animatediff.cli.options import frame_and_file, is_given
from lib_animatediff.request.control.unit import FILLS, HOLD, MOST_WEIGHT, ControlUnit
from lib_animatediff.request.start.pins import Pin
from lib_animatediff.video.source import Source
from motion_module import ClipError
from motion_module.limits import exists

HEADING = "Image prompt"
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "ip_adapter": (
        "--ip-adapter",
        {
            "type": click.Path(path_type=Path),
            "help": "IP-Adapter, such as ip-adapter_sd15.safetensors: the clip takes content and style from the images "
            "of --ip-image.",
        },
    ),
    "image_encoder": (
        "--image-encoder",
        {
            "type": click.Path(path_type=Path),
            "help": "Folder of CLIP's image encoder that the IP-Adapter was published with. Nothing is downloaded.",
        },
    ),
    "ip_images": (
        "--ip-image",
        {
            "multiple": True,
            "metavar": "SOURCE|FRAME:FILE",
            "help": "An image for all frames; a video, folder or pattern with one per frame; or, repeated, images at "
            "frames, such as 0:a.png, between which the clip travels.",
        },
    ),
    "ip_weight": (
        "--ip-weight",
        {
            "default": "1",
            "show_default": True,
            "metavar": "WEIGHT",
            "help": f"Strength of the IP-Adapter over the frames, such as 0.8 or '0: 1, 12: 0.4', from 0 to "
            f"{MOST_WEIGHT:g}.",
        },
    ),
    "ip_start": (
        "--ip-start",
        {
            "default": "0",
            "show_default": True,
            "metavar": "SHARE",
            "help": "Share of the steps after which the IP-Adapter begins, such as 0.2 or, over the frames, '0: 0, 12: "
            "0.4'. Above 0 the prompt shapes the layout.",
        },
    ),
    "ip_end": (
        "--ip-end",
        {
            "default": "1",
            "show_default": True,
            "metavar": "SHARE",
            "help": "Share of the steps after which the IP-Adapter ends.",
        },
    ),
    "ip_mask": (
        "--ip-mask",
        {
            "metavar": "SOURCE",
            "help": "White where the IP-Adapter acts: an image for all frames, or a video or folder with one for each.",
        },
    ),
    "ip_fit": (
        "--ip-fit",
        {
            "type": click.Choice(FILLS),
            "default": HOLD,
            "show_default": True,
            "help": "For fewer images than frames in a source: hold the last one, stretch them over the clip, loop "
            "them, or refuse.",
        },
    ),
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING)


def with_image_prompt_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_image_prompt(options: dict[str, Any]) -> tuple[ControlUnit, ...]:
    """Take the options of an IP-Adapter out of those of a command; empty without one.

    Raises:
        ClipError: a value is malformed or out of range, or the options do not fit together.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    path, encoder, images = given["ip_adapter"], given["image_encoder"], given["ip_images"]
    if path is None:
        if idle := [option for name, (option, _) in _OPTIONS.items() if is_given(name)]:
            raise ClipError(
                f"{', '.join(idle)} would have no effect without an IP-Adapter. Give --ip-adapter.", code="AD-H76"
            )
        return ()
    if encoder is None or not images:
        missing = "--image-encoder FOLDER" if encoder is None else "--ip-image FILE"
        raise ClipError(f"{path.name} needs images and their encoder. Give {missing}.", code="AD-H77")
    source, keys = _images(images)
    unit = ControlUnit(
        path,
        source,
        keys,
        weight=given["ip_weight"],
        start=share(given["ip_start"]),
        end=share(given["ip_end"]),
        fill=given["ip_fit"],
        encoder=encoder,
        mask=None if given["ip_mask"] is None else Source(Path(given["ip_mask"])),
    )
    if keys and is_given("ip_fit"):
        raise ClipError("--ip-fit would have no effect on images at frames. Leave it out.", code="AD-H78")
    return (unit,)


def _images(given: Sequence[str]) -> tuple[Source | None, tuple[Pin, ...]]:
    """The source, or the images at frames."""
    if len(given) == 1 and (exists(Path(given[0])) or frame_and_file(given[0]) is None):
        return Source(Path(given[0])), ()
    keys = []
    for text in given:
        pin = frame_and_file(text)
        if pin is None:
            raise ClipError(
                f"--ip-image {text} is not valid among several. Write FRAME:FILE for each, such as 8:c.png.",
                code="AD-H79",
            )
        if not exists(pin.path):
            raise ClipError(f"There is no image {pin.path} for --ip-image. Check the path.", code="AD-H80")
        keys.append(pin)
    return None, tuple(keys)
