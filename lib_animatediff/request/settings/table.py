"""The table itself: the dataclass `ClipSettings`, each of whose fields carries its `Setting`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

from lib_animatediff.engine.context_windows import FUSIONS, WINDOW_KINDS
from lib_animatediff.prompts.travel import EASINGS, INTERPOLATIONS
from lib_animatediff.request.masks import packed_mask
from lib_animatediff.request.motion_scale import MOST_EFFECT, MOST_SCALE, parse_blocks, parse_frames, parse_steps
from lib_animatediff.sampling.frame_noise import NOISE_KINDS, parse_frame_seeds
from lib_animatediff.sampling.freeinit import FILTERS


@dataclass(frozen=True)
class Setting:
    """What is known about one parameter.

    Attributes:
        name: the canonical name.
        aliases: names that existing clients and saved pictures use for it.
        type: ``bool``, ``int``, ``float``, ``str``, or ``tuple`` for several of the choices.
        default: value when nothing is said.
        label: what the panel calls it.
        help: what it changes in the clip.
        minimum, maximum: limits of a number, both included.
        choices: what a text may be; empty for any.
        in_panel: whether the accordion shows it.
        group: heading under which the accordion folds it away; empty for what is always seen.
        omit_default: leave this setting out of the infotext when it has its default value.
        accepts_numbers: a string setting that also accepts a number or a list of numbers.
        parse: checks a string and returns the form to store; raises ClipError.
        image: whether the text holds a picture, as base64.
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
FILE_FORMATS = {  # by the names that clients of the existing extension know: keys of `video.FORMATS`
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
_LONG = "Context windows, for clips longer than the context length"
_TRAVEL = "Prompt travel: lines such as 8: autumn in the prompt"
_AMOUNT = "Amount of motion"
_LORAS = "Motion LoRAs"
_NOISE = "Noise"
_ZERO = "Text2Video-Zero: motion without a motion module"
_FARTHEST = 64.0  # pixels, an eighth of the picture in each frame


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
    """What a clip is to be. Make one with `parse_settings`, which checks the values."""

    enable: bool = _setting(
        False, "AnimateDiff", "Make a clip instead of a picture.", aliases=("enabled",), in_panel=False
    )
    model: str = _setting("", "Motion module", "How things move. The checkpoint decides how they look.")
    frames: int = _setting(
        16,
        "Frames",
        "Pictures in the clip, any number: beyond the context length it is made in windows. 0 stands for that length.",
        aliases=("video_length",),
        minimum=0,
        maximum=LONGEST_CLIP,
    )
    fps: float = _setting(
        8.0,
        "Frames per second",
        "How fast the clip plays. Motion modules were trained on about 8.",
        minimum=1,
        maximum=50,
    )
    loop_count: int = _setting(
        0,
        "Loop count",
        "How often the clip plays. 0 plays it for ever.",
        aliases=("loop_number", "loop"),
        minimum=0,
        maximum=100,
    )
    context_length: int = _setting(
        16,
        "Context length",
        "Frames that the motion module sees at once. 16 suits every official one, HotShot-XL wants 8. 0 stands for 16.",
        aliases=("batch_size",),
        minimum=0,
        maximum=128,
        group=_LONG,
    )
    overlap: int = _setting(
        -1,
        "Overlap",
        "Frames that neighbouring windows share: more hides seams and takes longer. -1 is a quarter of the context.",
        minimum=-1,
        maximum=127,
        group=_LONG,
    )
    stride: int = _setting(
        1,
        "Stride",
        "Above 1, further windows see every 2nd, 4th, ... frame, which holds long clips together and takes longer.",
        minimum=1,
        maximum=8,
        group=_LONG,
    )
    context_kind: str = _setting(
        "uniform",
        "Windows",
        "uniform: begin elsewhere at each step. looped: the same, round the end. static: fixed. batched: no overlap.",
        choices=WINDOW_KINDS,
        group=_LONG,
    )
    fusion: str = _setting(
        "pyramid",
        "Fusion",
        "How windows are mixed where they overlap. pyramid: their middle counts most. flat: all of it the same.",
        choices=tuple(FUSIONS),
        group=_LONG,
    )
    closed_loop: str = _setting(
        "N",
        "Closed loop",
        "Lets the end lead into the beginning of a clip longer than its context. N: no. R-P, R+P: gently. A: firmly.",
        choices=("N", "R-P", "R+P", "A"),
        group=_LONG,
    )
    reverse: bool = _setting(False, "Reverse", "Play the clip back to its beginning, without showing an end twice.")
    formats: tuple[str, ...] = _setting(
        ("GIF",),
        "Save as",
        "GIF plays everywhere in 256 colours; MP4 and WEBM are films; PNG: a folder of frames; TXT: the settings. "
        "Frame: pictures beside the clip, in the gallery and in the API's reply.",
        aliases=("format",),
        choices=FORMATS,
    )
    views: bool = _further(
        False,
        "Views",
        "Windows inside the motion module only; all frames pass the model at once: more memory, steadier pictures.",
        _LONG,
    )
    travel_interpolation: str = _further(
        INTERPOLATIONS[0],
        "Between prompts",
        "slerp: turn from one prompt to the next. linear: fade. step: change at once.",
        _TRAVEL,
        choices=INTERPOLATIONS,
    )
    travel_easing: str = _further(
        next(iter(EASINGS)),
        "Easing",
        "How the change begins and ends. A line may say its own: 8 ease-in: autumn.",
        _TRAVEL,
        choices=tuple(EASINGS),
    )
    travel_hold: float = _further(
        0.0,
        "Hold",
        "Part of the way to the next prompt for which the former stands still.",
        _TRAVEL,
        minimum=0,
        maximum=1,
    )
    scale: str = _further(
        "1",
        "Scale",
        "How much frames differ: below 1 calmer, above 1 livelier. A number, one per frame (1, 1.1, ...), 0: 1, 8: 2.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_frames("scale", text, LONGEST_CLIP, MOST_SCALE)),
    )
    effect: str = _further(
        "1",
        "Effect",
        "How much of the motion module is used: 0 is none of it. A number, one per frame, or 0: 1, 8: 0.5.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_frames("effect", text, LONGEST_CLIP, MOST_EFFECT)),
    )
    scale_steps: str = _further(
        "",
        "Scale over the steps",
        "A factor, such as 0%: 1, 60%: 1.2. Empty: 1.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_steps("scale_steps", text, MOST_SCALE)),
    )
    effect_steps: str = _further(
        "",
        "Effect over the steps",
        "A factor, such as 0%: 1, 60%: 0.5. Empty: 1.",
        _AMOUNT,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_steps("effect_steps", text, MOST_EFFECT)),
    )
    effect_start: float = _further(
        0.0, "Motion begins", "Part of the steps before there is any motion.", _AMOUNT, minimum=0, maximum=1
    )
    effect_end: float = _further(
        1.0, "Motion ends", "Part of the steps after which there is none.", _AMOUNT, minimum=0, maximum=1
    )
    blocks: str = _further(
        "",
        "Blocks",
        "Factors for blocks of the UNet, such as up.1 effect 0.5, mid scale 1.2.",
        _AMOUNT,
        parse=_checked_by(lambda text: parse_blocks("blocks", text)),
    )
    motion_mask: str = _further(
        "",
        "Motion mask",
        "A picture: motion where it is white; where it is black each frame is the checkpoint's own. Clients: base64.",
        _AMOUNT,
        parse=packed_mask,
        image=True,
    )
    mask_of: str = _further(
        "effect",
        "Mask of",
        "effect: black is without the motion module. scale: black moves as trained, white by the scale.",
        _AMOUNT,
        choices=("effect", "scale", "both"),
    )
    motion_loras: str = _further(
        "",
        "Motion LoRAs",
        "Camera movements and the like: name:strength, other:0.5. Or in the prompt: <lora:name:strength>.",
        _LORAS,
    )
    noise: str = _further(
        NOISE_KINDS[0],
        "Noise",
        "random: each frame its own. freenoise: long clips repeat it, shuffled. shared: partly one. constant: all one.",
        _NOISE,
        choices=NOISE_KINDS,
    )
    noise_share: float = _further(
        0.5, "Share", "Of shared noise: how much is the same in all frames.", _NOISE, minimum=0, maximum=1
    )
    frame_seeds: str = _further(
        "",
        "Seed of each frame",
        "Such as 5, 6, 90; a shorter list goes on counting. Empty: seed + frame.",
        _NOISE,
        accepts_numbers=True,
        parse=_checked_by(lambda text: parse_frame_seeds(text, LONGEST_CLIP)),
    )
    freeinit_enable: bool = _further(
        False, "FreeInit", "Samples again and again from the slow part of what came out: steadier, slower.", _NOISE
    )
    freeinit_filter: str = _further(
        next(iter(FILTERS)), "Filter", "What counts as slow.", _NOISE, choices=tuple(FILTERS)
    )
    freeinit_ds: float = _further(
        0.25, "d_s", "Share of the picture's frequencies that is kept.", _NOISE, minimum=0, maximum=1
    )
    freeinit_dt: float = _further(
        0.25, "d_t", "Share of the frequencies over time that is kept.", _NOISE, minimum=0, maximum=1
    )
    freeinit_iters: int = _further(3, "Iterations", "How often it samples in all.", _NOISE, minimum=1, maximum=10)
    freeinit_coarse: bool = _further(
        False, "Coarse to fine", "The first iterations take fewer steps, which is faster.", _NOISE
    )
    zero_x: float = _further(
        12.0,
        "To the left",
        "How far the picture glides from frame to frame, as if it were 512 wide. Below 0: to the right.",
        _ZERO,
        minimum=-_FARTHEST,
        maximum=_FARTHEST,
    )
    zero_y: float = _further(
        12.0,
        "Up",
        "Likewise, as if it were 512 high. Below 0: down.",
        _ZERO,
        minimum=-_FARTHEST,
        maximum=_FARTHEST,
    )
    zero_smoothing: float = _further(
        0.0,
        "Background smoothing",
        "How much the background is the first frame's, moved along: black in the motion mask, which it needs. Try 0.6.",
        _ZERO,
        minimum=0,
        maximum=1,
    )
    poster: bool = _further(
        False,
        "Poster",
        "Paint the first frame only, without motion, on the noise levels of the clip: a quick look before a long clip.",
        "",
    )
    request_id: str = _setting(
        "", "Request", "A word of the client's own, which its files' names end in.", in_panel=False
    )


SETTINGS: dict[str, Setting] = {
    f.name: Setting(f.name, type(f.default), f.default, **f.metadata[_KEY]) for f in fields(ClipSettings)
}
CANONICAL = {alias: s.name for s in SETTINGS.values() for alias in (s.name, *s.aliases)}

NO_LOOP, FIRM_LOOP = "N", "A"
UNIFORM, LOOPED = "uniform", "looped"
MOVING_KINDS = (UNIFORM, LOOPED)
AUTOMATIC_CONTEXT = 16  # the length that every official module was trained on
