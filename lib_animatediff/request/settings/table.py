"""The settings table: every field of the dataclass `ClipSettings` carries its `Setting`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from lib_animatediff.engine.context_windows import FUSIONS, WINDOW_KINDS
from lib_animatediff.prompts.travel import EASINGS, INTERPOLATIONS
from lib_animatediff.request.compat import ALIASES
from lib_animatediff.request.masks import packed_mask
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE, parse_blocks, parse_frames, parse_steps
from lib_animatediff.sampling.frame_noise import NOISE_KINDS, parse_frame_seeds
from lib_animatediff.sampling.freeinit import FILTERS


@dataclass(frozen=True)
class Setting:
    """One parameter of a clip.

    Attributes:
        name: canonical name.
        aliases: other names that clients and saved images use; see `lib_animatediff.request.compat`.
        type: ``bool``, ``int``, ``float``, ``str``, or ``tuple`` for several of the choices.
        default: value of a setting that is not given.
        label: name in the panel: a noun that users search for.
        help: one sentence that says what the setting changes in the clip; where choices need it, one for each.
        minimum, maximum: limits of a number, both included.
        choices: allowed values of a string; empty allows any.
        in_panel: whether the accordion shows the setting.
        group: heading of the accordion section that holds the setting; empty for the section that is always open.
        omit_default: leave this setting out of the infotext when it has its default value.
        accepts_numbers: a string setting that also accepts a number or a list of numbers.
        parse: checks a string and returns the form to store; raises ClipError.
        image: whether the string holds an image as base64.
    """

    name: str
    type: type
    default: Any
    label: str
    help: str
    aliases: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    in_panel: bool = True
    group: str = ""
    omit_default: bool = False
    accepts_numbers: bool = False
    parse: Callable[[str], str] | None = None
    image: bool = False


_KEY = "setting"
FRAME = "Frame"
FILE_FORMATS = {  # the existing extension's name of each format: its key in `video.FORMATS`
    "GIF": "gif",
    "WEBP": "webp",
    "APNG": "apng",
    "MP4": "mp4",
    "WEBM": "webm",
    "AVIF": "avif",
    "PNG": "frames",
    "TXT": "txt",
}
FORMATS = (*FILE_FORMATS, FRAME)
LONGEST_CLIP = 10_000  # frames
_WINDOWS = "Context windows (for clips longer than the context length)"
_TRAVEL = "Prompt travel (prompts that change during the clip)"
_AMOUNT = "Amount of motion"
_LORAS = "Motion LoRAs (camera movements)"
_NOISE = "Noise and FreeInit"
_TEXT2VIDEO_ZERO = "Text2Video-Zero (motion without a motion module)"
_LARGEST_SHIFT = 64.0  # pixels: an eighth of the image per frame


def _setting(default: Any, label: str, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={_KEY: {"label": label, "help": help, **limits}})


def _further(default: Any, label: str, help: str, group: str, **limits: Any) -> Any:
    return _setting(default, label, help, group=group, omit_default=True, **limits)


def _checked_by(parser: Callable[[str], Any]) -> Callable[[str], str]:
    def checked(text: str) -> str:
        parser(text)
        return text.strip()

    return checked


@dataclass(frozen=True)
class ClipSettings:
    """The settings of a clip. `parse_settings` makes one and checks the values.

    The order of the fields is the order of the panel, of the API's positional arguments and of the infotext.
    """

    enable: bool = _setting(False, "AnimateDiff", "Makes a clip instead of an image.", in_panel=False)
    model: str = _setting(
        "", "Motion module", "Decides how things move in the clip; the checkpoint decides how they look."
    )
    frames: int = _setting(
        16,
        "Frames",
        "Number of frames in the clip; 0 makes as many as the context length.",
        minimum=0,
        maximum=LONGEST_CLIP,
    )
    fps: float = _setting(
        8.0,
        "Frames per second",
        "Playback speed of the clip; motion modules were trained on about 8.",
        minimum=1,
        maximum=120,
    )
    loop_count: int = _setting(
        0, "Loop count", "Number of times the clip plays; 0 repeats it forever.", minimum=0, maximum=100
    )
    context_length: int = _setting(
        16,
        "Context length",
        "Number of frames that the motion module sees together, and so the length of a window: 16 for most modules, "
        "8 for HotShot-XL; 0 means 16.",
        minimum=0,
        maximum=128,
        group=_WINDOWS,
    )
    overlap: int = _setting(
        -1,
        "Window overlap",
        "Number of frames that two neighbouring windows share: more hides seams but takes longer; -1 means a quarter "
        "of the context length.",
        minimum=-1,
        maximum=127,
        group=_WINDOWS,
    )
    stride: int = _setting(
        1,
        "Window stride",
        "1: each window has consecutive frames. 2 adds windows of every 2nd frame, 3 adds those of every 4th as well: "
        "long clips stay more consistent and take longer.",
        minimum=1,
        maximum=8,
        group=_WINDOWS,
    )
    context_kind: str = _setting(
        "uniform",
        "Window schedule",
        "Places the windows of a long clip. uniform: they move at each step, which hides seams. looped: they also wrap "
        "around the end of the clip. static: they stay in place. batched: they do not overlap.",
        choices=WINDOW_KINDS,
        group=_WINDOWS,
    )
    fusion: str = _setting(
        "pyramid",
        "Window fusion",
        "Blends the windows where they overlap. pyramid: the middle of a window counts most. flat: all its frames "
        "count the same. overlap-linear: it fades in and out over the overlap.",
        choices=tuple(FUSIONS),
        group=_WINDOWS,
    )
    closed_loop: str = _setting(
        "N",
        "Closed loop",
        "Leads the end of the clip back to its start. N: off. R-P: weakly, in clips above the context length only. "
        "R+P: the same, and changing prompts return to the first one. A: strongly, in clips of any length.",
        choices=("N", "R-P", "R+P", "A"),
        group=_WINDOWS,
    )
    reverse: bool = _setting(
        False,
        "Reverse (ping-pong)",
        "Plays the clip forward and then backward, without repeating the first and the last frame.",
    )
    formats: tuple[str, ...] = _setting(
        ("GIF",),
        "Output formats",
        "GIF plays everywhere in 256 colours, MP4 and WEBM are videos, PNG is a folder of frames, TXT holds the "
        "settings, Frame adds single images to the gallery and the API's reply.",
        choices=FORMATS,
    )
    views: bool = _further(
        False,
        "Windows inside attention only (views)",
        "Applies the windows only inside the motion module; all frames pass through the UNet together, which makes "
        "them more consistent but uses more memory.",
        _WINDOWS,
    )
    travel_interpolation: str = _further(
        INTERPOLATIONS[0],
        "Prompt interpolation",
        "Transition between prompts: slerp rotates one encoding into the next, linear fades, step switches at once.",
        _TRAVEL,
        choices=INTERPOLATIONS,
    )
    travel_easing: str = _further(
        next(iter(EASINGS)),
        "Prompt easing",
        "Pace of each transition between prompts; a line can set its own, such as 8 ease-in: autumn.",
        _TRAVEL,
        choices=tuple(EASINGS),
    )
    travel_hold: float = _further(
        0.0,
        "Prompt hold",
        "Fraction of the frames between two prompts that keep the first prompt before the transition starts.",
        _TRAVEL,
        minimum=0,
        maximum=1,
    )
    scale: str = _further(
        "1",
        "Motion scale",
        "How much frames differ, best from 0.7 to 1.3: below 1 is calmer, above 1 livelier. A number, one per frame "
        "(1, 1.1, ...), or 0: 1, 8: 1.3.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_frames("scale", text, LONGEST_CLIP, MOST_SCALE)),
    )
    effect: str = _further(
        "1",
        "Motion effect",
        "Share of the motion module that is applied, best from 0.8 to 1: 0 gives unrelated images. A number, one per "
        "frame (1, 0.9, ...), or 0: 1, 8: 0.8.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_frames("effect", text, LONGEST_CLIP, MOST_EFFECT)),
    )
    scale_steps: str = _further(
        "",
        "Motion scale per step",
        "Multiplies the motion scale during sampling, such as 0%: 1, 60%: 1.2; empty means 1.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_steps("scale_steps", text, MOST_SCALE)),
    )
    effect_steps: str = _further(
        "",
        "Motion effect per step",
        "Multiplies the motion effect during sampling, such as 0%: 1, 60%: 0.5; empty means 1.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_steps("effect_steps", text, MOST_EFFECT)),
    )
    effect_start: float = _further(
        0.0,
        "Motion start",
        "Fraction of the sampling steps that run without motion at the beginning.",
        _AMOUNT,
        minimum=0,
        maximum=1,
    )
    effect_end: float = _further(
        1.0,
        "Motion end",
        "Fraction of the sampling steps after which motion is switched off.",
        _AMOUNT,
        minimum=0,
        maximum=1,
    )
    blocks: str = _further(
        "",
        "Motion per UNet block",
        "Multiplies scale or effect in parts of the UNet, such as up.1 effect 0.5, mid scale 1.2.",
        _AMOUNT,
        parse=_checked_by(lambda text: parse_blocks("blocks", text)),
    )
    motion_mask: str = _further(
        "",
        "Motion mask",
        "Image that limits motion to its white areas; black areas are images of the checkpoint alone (API: base64).",
        _AMOUNT,
        parse=packed_mask,
        image=True,
    )
    mask_of: str = _further(
        "effect",
        "Mask applies to",
        "effect removes the motion module from black areas; scale applies the motion scale to white areas only.",
        _AMOUNT,
        choices=("effect", "scale", "both"),
    )
    motion_loras: str = _further(
        "",
        "Motion LoRAs",
        "Adds camera movements, such as pan:0.8, zoom:0.5; <lora:pan:0.8> in the prompt does the same.",
        _LORAS,
    )
    noise: str = _further(
        NOISE_KINDS[0],
        "Noise type",
        "Noise of the frames: random differs in each, freenoise repeats it in another order in long clips, shared is "
        "partly the same, constant the same in all.",
        _NOISE,
        choices=NOISE_KINDS,
    )
    noise_share: float = _further(
        0.5,
        "Shared noise",
        "Fraction of the noise that is the same in all frames if the noise type is shared; more makes the clip calmer.",
        _NOISE,
        minimum=0,
        maximum=1,
    )
    frame_seeds: str = _further(
        "",
        "Frame seeds",
        "Seed of each frame's noise, such as 5, 6, 90; a shorter list counts on, and empty means seed + frame number.",
        _NOISE,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_frame_seeds(text, LONGEST_CLIP)),
    )
    freeinit_enable: bool = _further(
        False,
        "FreeInit",
        "Samples the clip several times and keeps only its slow changes in between, which makes it steadier but "
        "several times slower.",
        _NOISE,
    )
    freeinit_filter: str = _further(
        next(iter(FILTERS)),
        "FreeInit filter",
        "Shape of the low-pass filter that separates slow changes from fast ones.",
        _NOISE,
        choices=tuple(FILTERS),
    )
    freeinit_ds: float = _further(
        0.25,
        "Spatial cutoff",
        "Share of the spatial frequencies that FreeInit keeps from one iteration to the next.",
        _NOISE,
        minimum=0,
        maximum=1,
    )
    freeinit_dt: float = _further(
        0.25,
        "Temporal cutoff",
        "Share of the temporal frequencies that FreeInit keeps from one iteration to the next.",
        _NOISE,
        minimum=0,
        maximum=1,
    )
    freeinit_iters: int = _further(
        3, "FreeInit iterations", "Number of times that FreeInit samples the clip.", _NOISE, minimum=1, maximum=10
    )
    freeinit_coarse: bool = _further(
        False,
        "FreeInit coarse to fine",
        "Runs the first FreeInit iterations with fewer sampling steps, which is faster.",
        _NOISE,
    )
    zero_x: float = _further(
        12.0,
        "Shift x per frame",
        "Pixels per frame that the image moves to the left, at a width of 512; negative values move it to the right.",
        _TEXT2VIDEO_ZERO,
        minimum=-_LARGEST_SHIFT,
        maximum=_LARGEST_SHIFT,
    )
    zero_y: float = _further(
        12.0,
        "Shift y per frame",
        "Pixels per frame that the image moves up, at a height of 512; negative values move it down.",
        _TEXT2VIDEO_ZERO,
        minimum=-_LARGEST_SHIFT,
        maximum=_LARGEST_SHIFT,
    )
    zero_smoothing: float = _further(
        0.0,
        "Background smoothing",
        "Blends the first frame's background into all frames where the motion mask is black; needs a mask, try 0.6.",
        _TEXT2VIDEO_ZERO,
        minimum=0,
        maximum=1,
    )
    preview: bool = _further(
        False,
        "Preview (first frame only)",
        "Renders only the first frame, without motion but on the clip's noise levels: a quick look before a long clip.",
        "",
    )
    request_id: str = _setting(
        "", "Request ID", "Text of the client's choice at the end of the clip's file names.", in_panel=False
    )


SETTINGS: dict[str, Setting] = {
    f.name: Setting(f.name, type(f.default), f.default, aliases=ALIASES.get(f.name, ()), **f.metadata[_KEY])
    for f in fields(ClipSettings)
}
CANONICAL = {alias: s.name for s in SETTINGS.values() for alias in (s.name, *s.aliases)}

NO_LOOP, FIRM_LOOP = "N", "A"
UNIFORM, LOOPED = "uniform", "looped"
MOVING_KINDS = (UNIFORM, LOOPED)
AUTOMATIC_CONTEXT = 16  # the length that every official module was trained on
