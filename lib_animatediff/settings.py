"""Every parameter that a person can set, once: panel, API, infotext and command line derive from this table.

The table is the dataclass itself: each field carries its `Setting`. Values are checked once, here, at the door.
"""

from __future__ import annotations

import difflib
import json
import math
import re
import reprlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from motion_module import ClipError

from .windows import FUSIONS, WINDOW_KINDS, ContextWindows


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
_LONG = "Context windows, for clips longer than the context length"


def _setting(default: Any, label: str, help: str, **limits: Any) -> Any:
    return field(default=default, metadata={_KEY: {"label": label, "help": help, **limits}})


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
        maximum=10_000,
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
    request_id: str = _setting(
        "", "Request", "A word of the client's own, which its files' names end in.", in_panel=False
    )


SETTINGS: dict[str, Setting] = {
    f.name: Setting(f.name, type(f.default), f.default, **f.metadata[_KEY]) for f in fields(ClipSettings)
}
_CANONICAL = {alias: s.name for s in SETTINGS.values() for alias in (s.name, *s.aliases)}

NO_LOOP, FIRM_LOOP = "N", "A"
UNIFORM, LOOPED = "uniform", "looped"
_MOVING_KINDS = (UNIFORM, LOOPED)
AUTOMATIC_CONTEXT = 16  # the length that every official module was trained on

# What clients of the existing extension send along, with the values that ask for nothing beyond a plain clip.
# None: any value will do, since the argument only tunes something that is not asked for.
_PLAIN_VALUES: dict[str, tuple[Any, ...] | None] = {
    "interp": ("Off",),
    "interp_x": None,
    "video_source": (None, ""),
    "video_path": (None, ""),
    "mask_path": (None, ""),
    "freeinit_enable": (False,),
    "freeinit_filter": None,
    "freeinit_ds": None,
    "freeinit_dt": None,
    "freeinit_iters": None,
    "latent_power": None,
    "latent_scale": None,
    "last_frame": (None, ""),
    "latent_power_last": None,
    "latent_scale_last": None,
}


def parse_settings(values: Mapping[str, Any]) -> ClipSettings:
    """Check what a person or a client gave, under any known name, and fill in the rest.

    Raises:
        ClipError: an unknown name (the nearest known one is named), a value of a wrong type or out of range.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        canonical = _CANONICAL.get(name)
        if canonical is None:
            _check_foreign(name, value)
        elif canonical in given and given[canonical] != value:
            raise ClipError(f"{name} and another name for {canonical} say different things. Give only {canonical}.")
        else:
            given[canonical] = value
    settings = ClipSettings(**{name: _checked(SETTINGS[name], value) for name, value in given.items()})
    _check_together(settings)
    return settings


def canonical_name(name: str) -> str | None:
    """The table's name for any name that a client may use; None for one that is not in the table."""
    return _CANONICAL.get(name)


def clip_frames(settings: ClipSettings) -> int:
    """Frames of the clip, where 0 stands for the context length."""
    return settings.frames or context_length(settings)


def context_length(settings: ClipSettings) -> int:
    """Frames of a context window, where 0 stands for what modules do best."""
    return settings.context_length or AUTOMATIC_CONTEXT


def context_windows(settings: ClipSettings) -> ContextWindows | None:
    """How the clip is cut into windows; None where one window sees all of it."""
    length = context_length(settings)
    if clip_frames(settings) <= length:
        return None
    is_loop = settings.closed_loop != NO_LOOP
    return ContextWindows(
        length=length,
        overlap=length // 4 if settings.overlap < 0 else settings.overlap,
        stride=settings.stride,
        kind=LOOPED if is_loop else settings.context_kind,
        fusion=settings.fusion,
        closed=settings.closed_loop == FIRM_LOOP,
    )


_JSON_TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", tuple: "array"}


def json_schema() -> dict[str, Any]:
    """The table as JSON schema (draft 2020-12), for clients: one object with our names, and the aliases of each."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "AnimateDiff",
        "type": "object",
        "properties": {setting.name: _property(setting) for setting in SETTINGS.values()},
        "additionalProperties": False,
    }


def _property(setting: Setting) -> dict[str, Any]:
    told = {
        "type": _JSON_TYPES[setting.type],
        "title": setting.label,
        "description": setting.help,
        "default": list(setting.default) if setting.type is tuple else setting.default,
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        **_offered(setting),
        "aliases": list(setting.aliases) or None,
    }
    return {name: value for name, value in told.items() if value is not None}


def _offered(setting: Setting) -> dict[str, Any]:
    enum = {"enum": list(setting.choices)} if setting.choices else {}
    return {"items": {"type": "string", **enum}, "minItems": 1} if setting.type is tuple else enum


def _check_foreign(name: str, value: Any) -> None:
    if name not in _PLAIN_VALUES:
        nearest = difflib.get_close_matches(name, [*_CANONICAL, *_PLAIN_VALUES], n=1, cutoff=0.5)
        hint = f" Did you mean {nearest[0]}?" if nearest else f" Known names: {', '.join(SETTINGS)}."
        raise ClipError(f"AnimateDiff knows no setting {reprlib.repr(name)}.{hint}")
    plain = _PLAIN_VALUES[name]
    if plain is not None and value not in plain:
        raise ClipError(
            f"{name}={reprlib.repr(value)} is not supported by this version. Leave {name} out, or send {plain[0]!r}."
        )


def _checked(setting: Setting, value: Any) -> Any:
    if setting.type in (int, float):
        return _checked_number(setting, value)
    if setting.type is tuple:
        return _checked_several(setting, value)
    if not isinstance(value, setting.type):
        wanted = "true or false" if setting.type is bool else "a text"
        raise ClipError(f"{setting.name} must be {wanted}, not {reprlib.repr(value)}.")
    if setting.choices and value not in setting.choices:
        raise ClipError(f"{setting.name} must be one of {', '.join(setting.choices)}, not {reprlib.repr(value)}.")
    return value


def _checked_several(setting: Setting, value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(item, str) for item in given):
        raise ClipError(f"{setting.name} must be a list of {', '.join(setting.choices)}, not {reprlib.repr(value)}.")
    known = {choice.lower(): choice for choice in setting.choices}
    for item in given:
        if item.lower() not in known:
            raise ClipError(f"{setting.name} knows {', '.join(setting.choices)}, not {reprlib.repr(item)}.")
    return tuple(dict.fromkeys(known[item.lower()] for item in given))


def _checked_number(setting: Setting, value: Any) -> int | float:
    whole = setting.type is int
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and value % 1 != 0):
        raise ClipError(f"{setting.name} must be a {'whole ' if whole else ''}number, not {reprlib.repr(value)}.")
    low, high = setting.minimum, setting.maximum
    if low is not None and high is not None and not low <= value <= high:
        raise ClipError(f"{setting.name} must be between {low:g} and {high:g}, not {reprlib.repr(value)}.")
    return setting.type(value)  # type: ignore[no-any-return]


def _check_together(settings: ClipSettings) -> None:
    length = context_length(settings)
    if settings.overlap >= length:
        raise ClipError(
            f"overlap={settings.overlap} leaves windows of {length} frames where they are. Set it below {length}."
        )
    if settings.closed_loop != NO_LOOP and settings.context_kind not in _MOVING_KINDS:
        raise ClipError(
            f"A closed loop has no {settings.context_kind} windows. Set context_kind to uniform or looped, or "
            f"closed_loop to {NO_LOOP}."
        )


def to_infotext(settings: ClipSettings, **more: str | None) -> str:
    """One line that a saved picture carries: ``name: value, ...``, values quoted as JSON where they need it."""
    pairs = {**asdict(settings), **more}
    return ", ".join(f"{name}: {_quoted(value)}" for name, value in pairs.items() if value not in (None, ""))


def from_infotext(text: str) -> dict[str, Any]:
    """Settings by canonical name from such a line, of ours or of the existing extension; unknown names are dropped."""
    values: dict[str, Any] = {}
    for name, quoted, plain in _PAIR.findall(text):
        canonical = _CANONICAL.get(name)
        if canonical is not None:
            try:
                values[canonical] = _read(SETTINGS[canonical].type, json.loads(quoted) if quoted else plain)
            except ValueError:
                continue  # a picture edited by hand: the field keeps its value
    return values


_PAIR = re.compile(r'(?:^|(?<=, ))(\w+): (?:("(?:[^"\\]|\\.)*")|([^,]+))(?:, |$)')


def _quoted(value: Any) -> str:
    if isinstance(value, tuple):
        return "+".join(value)
    text = repr(value).removesuffix(".0") if isinstance(value, float) else str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r'[,:"\n]', text) else text


def _read(kind: type, text: str) -> Any:
    if kind is bool:
        return text == "True"
    if kind is str:
        return text
    if kind is tuple:
        return re.findall(r"\w+", text)
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return kind(number)
