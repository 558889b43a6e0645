"""Options of `animate` for a clip with given images, or one that continues an earlier clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lib_animatediff.cli.options import frame_and_file, is_given, source_of
from lib_animatediff.request.compat import with_whole_ramp
from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.settings import (
    IMAGE_SETTINGS,
    SETTINGS,
    ClipSettings,
    clip_frames,
    parse_settings,
)
from lib_animatediff.request.settings.video import MOST_DENOISE
from lib_animatediff.request.start.continued import last_frames
from lib_animatediff.request.start.images import ramp_of
from lib_animatediff.request.start.pins import INVERSION, STRENGTH, Pin, PinnedFrames
from lib_animatediff.request.start.ramp import ImageRamp
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video import read_clip
from lib_animatediff.video.fitting import CROP, FITS, Size, inherited_size
from lib_animatediff.video.motion_meter import measure
from lib_animatediff.video.source import Source, examine
from motion_module import ClipError
from motion_module.limits import exists

from . import rerendered
from .continued import RERENDERED, carry_on, left_out

if TYPE_CHECKING:
    from PIL.Image import Image

HEADING = "Images in"
_LONGEST = 4  # times the shorter side
_PATH = click.Path(path_type=Path)
_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "image": (
        "--image",
        {
            "type": _PATH,
            "help": "Frame 0 is this image. The clip takes its shape over where --width and --height are not given.",
        },
    ),
    "last": ("--last", {"type": _PATH, "help": "The last frame is this image."}),
    "keys": (
        "--key",
        {"multiple": True, "metavar": "FRAME:FILE", "help": "Frame FRAME is this image, from 0. May be repeated."},
    ),
    "continued": (
        "--continue",
        {
            "type": _PATH,
            "is_eager": True,
            "callback": carry_on,
            "help": "Continue this clip: its last frames are the first ones of the new clip. Other options default to "
            "its recipe.",
        },
    ),
    "keep": (
        "--keep",
        {
            "type": int,
            "default": SETTINGS["keep_frames"].default,
            "show_default": True,
            "help": "How many of its last frames are kept. More of them show the movement better.",
        },
    ),
    **rerendered.OPTIONS,
    "image_fit": (
        "--image-fit",
        {
            "type": click.Choice(FITS),
            "default": CROP,
            "show_default": True,
            "help": "How an image fits a clip of another shape: cropped, padded with black, or scaled to it.",
        },
    ),
    "pin_strength": (
        "--pin-strength",
        {
            "type": float,
            "default": STRENGTH,
            "show_default": True,
            "help": "Share of the steps for which images are held. At 1 their frames equal them; lower values let the "
            "clip change them.",
        },
    ),
    "pin_inversion": (
        "--pin-inversion",
        {
            "type": float,
            "default": INVERSION,
            "show_default": True,
            "help": "Share of an image's inverted noise in the frame beside it. Higher values join more smoothly and "
            "move less; 0 turns it off.",
        },
    ),
}
_RAMP = ("latent_power", "latent_scale", "last_frame", "latent_power_last", "latent_scale_last")
_OF_TABLE = ("pin_init", *_RAMP)
_OPTIONS |= {
    name: (
        f"--{name.replace('_', '-')}",
        {
            "type": _PATH if name == "last_frame" else SETTINGS[name].type,
            "is_flag": SETTINGS[name].type is bool,
            "default": None if name == "last_frame" else SETTINGS[name].default,
            "show_default": name != "last_frame",
            "help": SETTINGS[name].full_help,
        },
    )
    for name in _OF_TABLE
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING)
# The settings of the table with another option here. Without one: the size is taken over where it is not given, and
# there is no init image.
OTHER_OPTIONS = {
    **dict.fromkeys(IMAGE_SETTINGS, ""),
    "image": "--image",
    "last_image": "--last",
    "key_images": "--key",
    "image_fit": "--image-fit",
    "pin_strength": "--pin-strength",
    "pin_inversion": "--pin-inversion",
    "continue_clip": "--continue",
    "keep_frames": "--keep",
    **rerendered.OTHER_OPTIONS,
    **{name: _OPTIONS[name][0] for name in _OF_TABLE},
}


@dataclass(frozen=True)
class ImagesIn:
    """The images of a clip, examined.

    Attributes:
        pins: the pinned frames; None: none are.
        ramp: images that fade in the initial latents; None: none do.
        start: frames of a clip that is rendered again in part, from which these start; None: there is no such clip.
        lines: what the user should know about them.
    """

    pins: PinnedFrames | None
    ramp: ImageRamp | None
    start: VideoStart | None
    lines: tuple[str, ...]
    _first: Source
    _shape: Size
    _continued: Path | None

    @property
    def is_continued(self) -> bool:
        """Whether the first images are the last frames of an earlier clip."""
        return self._continued is not None

    def size(self, width: int | None, height: int | None, side: int) -> Size:
        """Width and height of the clip, in which given sides stay.

        Args:
            side: the shorter side where none is given, except for a clip that goes on from another one.

        Raises:
            ClipError: the first image is too long and narrow for a clip.
        """
        shape = self._shape
        is_own = self._continued is None and not (self.pins and self.pins.keeps_pixels)
        if is_own and width is None and height is None:
            if max(shape) > _LONGEST * min(shape):
                raise ClipError(
                    f"{self._first.name} has {shape[0]}x{shape[1]} pixels, which is too long and narrow for a clip. "
                    "Choose a size with --width and --height.",
                    code="AD-K30",
                )
            shape = (round(shape[0] * side / min(shape)), round(shape[1] * side / min(shape)))
        return inherited_size(shape, self._first.fit, width=width, height=height)

    def seam(self, frames: Sequence[Image]) -> float | None:
        """The largest change beside a pinned frame, relative to the usual change of the clip; None: there is none.

        A clip that continues another one is measured against the frames of that one, not against their copies.
        """
        if self.pins is None:
            return None
        if self._continued is None:
            return measure(frames, self.pins.borders(len(frames))).worst_seam
        kept = self.pins.frames
        kept = kept[: next((place for place, frame in enumerate(kept) if place != frame), len(kept))]
        if len(frames) <= len(kept):  # a preview
            return None
        before = [frame.image.convert("RGB") for frame in read_clip(self._continued, start=self.pins.pins[0].index)]
        after = frames[len(kept) :]
        sized = [image if image.size == after[0].size else image.resize(after[0].size) for image in before]
        return measure([*sized, *after], [len(sized)]).worst_seam


def with_image_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def asks_for_ramp(options: Mapping[str, Any]) -> bool:
    """Whether the options ask for images that fade in the initial latents, which a source video has no room for."""
    return bool(_ramp_settings(options).latent_scale) and options["image"] is not None


def take_images(options: dict[str, Any]) -> ImagesIn | None:
    """Take the options of images out of those of a command, and examine the images; None if there are none.

    Args:
        options: of the command that runs. ``fps`` becomes that of a continued clip unless it was given.

    Raises:
        AnimateDiffError: a value is out of range, or an image cannot be used.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    others = _given_of(["image", "last", "keys", "continued", *_OF_TABLE])
    again = rerendered.take(given, options, others)
    frames = clip_frames(parse_settings({"frames": options["frames"], "context_length": options["context_length"]}))
    ramp = _ramp(given, options.pop("denoise", None), frames)
    if again is None:
        pins, lines = _pins_of(given, frames, has_ramp=ramp is not None)
    else:
        pins, lines = list(again.pins), left_out(again.path)
    if not pins and ramp is None:
        if idle := _given_of(list(_OPTIONS)):
            raise ClipError(
                f"{', '.join(idle)} would have no effect without an image. Give --image, --last, --key, --continue or "
                "--rerender.",
                code="AD-K31",
            )
        return None
    sources = [] if ramp is None else ramp.sources()
    pinned = None
    if pins:
        pinned = PinnedFrames(
            tuple(pins),
            given["pin_strength"],
            given["pin_inversion"],
            given["image_fit"],
            keeps_pixels=again is not None,
            leads_on=given["continued"] is not None,
        )
        pinned.check_inside(frames)
        sources = [*(source for source, _ in pinned.series()), *sources]
    shapes = [_shape_of(source) for source in sources]
    earlier = given["continued"] or given[RERENDERED]
    if earlier is not None and source_of("fps") is ParameterSource.DEFAULT:  # it has no recipe
        options["fps"] = float(examine(Source(earlier)).fps)
    lines += _without_effect(pinned, ramp, options)
    start = None if again is None else again.start
    return ImagesIn(pinned, ramp, start, tuple(lines), sources[0], shapes[0], given["continued"])


def _shape_of(source: Source) -> Size:
    if not exists(source.path):
        raise ClipError(f"There is no image {source.path}. Check the path.", code="AD-K32")
    return examine(source, frames=1).size


def _ramp_settings(options: Mapping[str, Any]) -> ClipSettings:
    """The settings of a ramp, with the existing extension's values for those that are not given beside others."""
    named = {name: options[name] for name in _RAMP if is_given(name)}
    last = {"last_frame": str(named["last_frame"])} if named.get("last_frame") else {}
    return parse_settings(with_whole_ramp({**named, **last}))


def _ramp(given: Mapping[str, Any], denoise: str | None, frames: int) -> ImageRamp | None:
    ramp = None if given["image"] is None or denoise is None else ramp_of(_ramp_settings(given))
    if ramp is None or denoise is None:
        return None
    strengths = set(parse_frames("denoise", denoise, frames, MOST_DENOISE))
    if len(strengths) > 1:
        raise ClipError(
            "--denoise has several values, and the latents of a ramp have one strength. Give one number, or use "
            "--video.",
            code="AD-K38",
        )
    files = {"image": given["image"], "last_image": given["last_frame"]}
    return replace(ramp, **files, denoise=strengths.pop(), fit=given["image_fit"])


def _without_effect(pins: PinnedFrames | None, ramp: ImageRamp | None, options: Mapping[str, Any]) -> list[str]:
    """Lines about what is given and changes nothing."""
    lines = []
    if is_given("pin_inversion") and is_given("video"):
        lines.append("--pin-inversion has no effect with --video, since the other frames start from its frames.")
    if ramp is None:
        beside = "with --video" if is_given("video") else "without --image and a --latent-scale above 0"
        lines += [f"{option} has no effect {beside}." for option in _given_of(_OF_TABLE)]
    else:
        lines += _idle_beside(ramp, pins, is_preview=options["preview"])
    if pins is not None and options["preview"] and (later := [pin.path.name for pin in pins.pins if pin.frame > 0]):
        lines.append(f"The preview is frame 0 alone, so that {', '.join(later)} has no effect.")
    return lines


def _idle_beside(ramp: ImageRamp, pins: PinnedFrames | None, *, is_preview: bool) -> list[str]:
    """Lines about what changes nothing beside a ramp, and one about what the ramp does."""
    idle = {"pin_inversion": "the other frames start from the images"}
    if pins is None:
        idle = dict.fromkeys(("pin_strength", "pin_inversion"), "no frame is pinned")
    if ramp.last_image is None:
        idle |= dict.fromkeys(("latent_power_last", "latent_scale_last"), "there is no --last-frame")
    elif is_preview:
        idle |= dict.fromkeys(("last_frame", "latent_power_last", "latent_scale_last"), "the preview is frame 0 alone")
    return [
        *(f"{_OPTIONS[name][0]} has no effect, since {why}." for name, why in idle.items() if is_given(name)),
        "--latent-scale washes frames out, and no frame equals its image. Without it, --image and --last make frames "
        "equal their images.",
    ]


def _given_of(names: Sequence[str]) -> list[str]:
    return [_OPTIONS[name][0] for name in names if is_given(name)]


def _pins_of(given: Mapping[str, Any], frames: int, *, has_ramp: bool) -> tuple[list[Pin], list[str]]:
    pins, lines = [], []
    if given["continued"] is not None:
        pins, lines = last_frames(given["continued"], given["keep"], frames), left_out(given["continued"])
    elif is_given("keep"):
        raise ClipError("--keep would have no effect without --continue. Give the clip to continue.", code="AD-K33")
    if given["image"] is not None and (given["pin_init"] or not has_ramp):
        pins.append(Pin(0, given["image"]))
    if given["last"] is not None:
        pins.append(Pin(frames - 1, given["last"]))
    return [*pins, *map(_key, given["keys"])], lines


def _key(text: str) -> Pin:
    pin = frame_and_file(text)
    if pin is None:
        raise ClipError(f"--key {text} is not valid. Write FRAME:FILE, such as 8:middle.png.", code="AD-K34")
    return pin
