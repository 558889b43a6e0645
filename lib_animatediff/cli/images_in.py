"""Options of `animate` for a clip with given images, or one that continues an earlier clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from lib_animatediff.builtin_model import MODELS
from lib_animatediff.jobs.infotext import PROGRAM
from lib_animatediff.jobs.recipe import Request, request_of
from lib_animatediff.request.output import output_of
from lib_animatediff.request.settings import (
    CONTROL_SETTINGS,
    IMAGE_SETTINGS,
    SETTINGS,
    VIDEO_SETTINGS,
    clip_frames,
    parse_settings,
)
from lib_animatediff.request.start.pins import INVERSION, STRENGTH, Pin, PinnedFrames
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.video import read_clip, read_recipe
from lib_animatediff.video.fitting import CROP, FITS, Size, inherited_size
from lib_animatediff.video.hashing import file_hash
from lib_animatediff.video.motion_meter import measure
from lib_animatediff.video.source import Source, examine
from motion_module import ClipError
from motion_module.limits import exists

if TYPE_CHECKING:
    from PIL.Image import Image

HEADING = "Images in"
KEEP = 4
_LONGEST = 4  # times the shorter side
_PATH = click.Path(path_type=Path)
_NOT_CARRIED = (
    *("enable", "model", "formats", "motion_loras", "request_id", "frame_seeds", "preview", "interpolator"),
    *VIDEO_SETTINGS,
    *IMAGE_SETTINGS,
    *CONTROL_SETTINGS,
)


def _carry_on(context: click.Context, _parameter: click.Parameter, path: Path | None) -> Path | None:
    """Make the values of an earlier clip's recipe the defaults of the options."""
    if path is not None and not context.resilient_parsing:
        context.default_map = {**(context.default_map or {}), **_carried(path)}
    return path


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
            "callback": _carry_on,
            "help": "Continue this clip: its last frames are the first ones of the new clip. Other options default to "
            "its recipe.",
        },
    ),
    "keep": (
        "--keep",
        {
            "type": int,
            "default": KEEP,
            "show_default": True,
            "help": "How many of its last frames are kept. More of them show the movement better.",
        },
    ),
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
}


@dataclass(frozen=True)
class ImagesIn:
    """The images of a clip, examined.

    Attributes:
        pins: the pinned frames.
        lines: what the user should know about them.
    """

    pins: PinnedFrames
    lines: tuple[str, ...]
    _shape: Size
    _continued: Path | None

    @property
    def is_continued(self) -> bool:
        """Whether the first images are the last frames of an earlier clip."""
        return self._continued is not None

    def size(self, width: int | None, height: int | None, side: int) -> Size:
        """Width and height of the clip, in which given sides stay.

        Args:
            side: the shorter side where none is given, except for a clip that continues another one.

        Raises:
            ClipError: the first image is too long and narrow for a clip.
        """
        shape = self._shape
        if self._continued is None and width is None and height is None:
            if max(shape) > _LONGEST * min(shape):
                raise ClipError(
                    f"{self.pins.pins[0].path.name} has {shape[0]}x{shape[1]} pixels, which is too long and narrow for "
                    "a clip. Choose a size with --width and --height.",
                    code="AD-K30",
                )
            shape = (round(shape[0] * side / min(shape)), round(shape[1] * side / min(shape)))
        return inherited_size(shape, self.pins.fit, width=width, height=height)

    def seam(self, frames: Sequence[Image]) -> float | None:
        """The largest change beside a pinned frame, relative to the usual change of the clip; None: there is none.

        A clip that continues another one is measured against the frames of that one, not against their copies.
        """
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


def take_images(options: dict[str, Any]) -> ImagesIn | None:
    """Take the options of images out of those of a command, and examine the images; None if there are none.

    Args:
        options: of the command that runs. ``fps`` becomes that of a continued clip unless it was given.

    Raises:
        AnimateDiffError: a value is out of range, or an image cannot be used.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    frames = clip_frames(parse_settings({"frames": options["frames"], "context_length": options["context_length"]}))
    pins, lines = _pins_of(given, frames)
    if not pins:
        if idle := [option for name, (option, _) in _OPTIONS.items() if _is_given(name)]:
            raise ClipError(
                f"{', '.join(idle)} would have no effect without an image. Give --image, --last, --key or --continue.",
                code="AD-K31",
            )
        return None
    pinned = PinnedFrames(tuple(pins), given["pin_strength"], given["pin_inversion"], given["image_fit"])
    pinned.check_inside(frames)
    shapes = {}
    for pin in pinned.pins:
        if not exists(pin.path):
            raise ClipError(f"There is no image {pin.path}. Check the path.", code="AD-K32")
        shapes[pin] = examine(pin.source(pinned.fit), frames=1).size
    if given["continued"] is not None and _source("fps") is ParameterSource.DEFAULT:  # it has no recipe
        options["fps"] = float(examine(Source(given["continued"])).fps)
    lines += _without_effect(pinned, options)
    return ImagesIn(pinned, tuple(lines), shapes[pinned.pins[0]], given["continued"])


def _without_effect(pins: PinnedFrames, options: Mapping[str, Any]) -> list[str]:
    """Lines about what is given and changes nothing."""
    lines = []
    if _is_given("pin_inversion") and _is_given("video"):
        lines.append("--pin-inversion has no effect with --video, since the other frames start from its frames.")
    if options["preview"] and (later := [pin.path.name for pin in pins.pins if pin.frame > 0]):
        lines.append(f"The preview is frame 0 alone, so that {', '.join(later)} has no effect.")
    return lines


def _pins_of(given: Mapping[str, Any], frames: int) -> tuple[list[Pin], list[str]]:
    pins, lines = [], []
    if given["continued"] is not None:
        pins, lines = _kept(given["continued"], given["keep"], frames), _left_out(given["continued"])
    elif _is_given("keep"):
        raise ClipError("--keep would have no effect without --continue. Give the clip to continue.", code="AD-K33")
    if given["image"] is not None:
        pins.append(Pin(0, given["image"]))
    if given["last"] is not None:
        pins.append(Pin(frames - 1, given["last"]))
    return [*pins, *map(_key, given["keys"])], lines


def _key(text: str) -> Pin:
    frame, _, path = text.partition(":")
    if not frame.strip().isdecimal() or not path:
        raise ClipError(f"--key {text} is not valid. Write FRAME:FILE, such as 8:middle.png.", code="AD-K34")
    return Pin(int(frame), Path(path))


def _kept(path: Path, keep: int, frames: int) -> list[Pin]:
    """The last frames of a clip as the first ones of the next."""
    count = examine(Source(path)).frames
    most = min(count, frames - 1)
    if not 1 <= keep <= most:
        raise ClipError(
            f"--keep {keep} is out of range: {path.name} has {count} frames, and the new clip {frames}. Keep 1 to "
            f"{most}.",
            code="AD-K35",
        )
    return [Pin(frame, path, count - keep + frame) for frame in range(keep)]


def _made_by(path: Path) -> tuple[Request, str] | None:
    """The request of a clip by this command line, with the name of its built-in model; None for other clips.

    The paths are names of files, which are not looked for.
    """
    data = read_recipe(path).data
    if data is None or data.get("program") != PROGRAM:
        return None
    hashes: dict[str, str] = {}

    def note(name: str, digest: str) -> Path:
        hashes[name] = digest
        return Path(name)

    request = request_of(data, note)
    models = (model for model in MODELS.values() if model.is_installed and model.checkpoint == request.checkpoint.name)
    own = next((m.name for m in models if file_hash(m.folder / m.checkpoint) == hashes[m.checkpoint]), "")
    return request, own


def _carried(path: Path) -> dict[str, Any]:
    """Options from the recipe of an earlier clip.

    Raises:
        ClipError: the clip cannot be continued.
    """
    made = _made_by(path)
    if made is None:
        return {}
    request, own = made
    if output_of(request.settings).interpolation is not None or request.settings.reverse:
        raise ClipError(
            f"{path.name} has frames in between or also plays backward, so that its last frames do not show where it "
            "goes. Render it without interpolation and reverse first.",
            code="AD-K36",
        )
    names = [name for name, setting in SETTINGS.items() if not setting.image and name not in _NOT_CARRIED]
    return {
        **{name: getattr(request.settings, name) for name in names},
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        # So that no frame has the noise of an earlier one.
        "seed": (request.seed + clip_frames(request.settings)) % SEED_LIMIT,
        "width": request.size[0],
        "height": request.size[1],
        "steps": request.steps,
        "cfg": request.cfg,
        "sampler": request.sampler,
        "spacing": request.spacing,
        **({"checkpoint": Path(own)} if own else {}),
    }


def _left_out(path: Path) -> list[str]:
    """Lines about files of an earlier clip that are not carried on.

    Raises:
        ClipError: its checkpoint has to be given.
    """
    made = _made_by(path)
    if made is None:
        return []
    request, own = made
    if not own and not _is_given("checkpoint"):
        raise ClipError(
            f"{path.name} was made with {request.checkpoint.name} and {request.motion.name}. Give both: --checkpoint "
            "and --motion.",
            code="AD-K37",
        )
    added = {
        "--lora": ("loras", [lora.path for lora in request.loras]),
        "--motion-lora": ("motion_loras", [lora.path for lora in request.motion_loras]),
        "--embedding": ("embeddings", list(request.embeddings)),
    }
    return [
        f"{path.name} was made with {', '.join(file.name for file in files)}. To carry on with it, give {option}."
        for option, (name, files) in added.items()
        if files and not _is_given(name)
    ]


def _is_given(name: str) -> bool:
    return _source(name) not in (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def _source(name: str) -> ParameterSource | None:
    return click.get_current_context().get_parameter_source(name)
