"""Values are checked once, here, at the door."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Mapping
from typing import Any

from lib_animatediff.request.compat import PLAIN_VALUES
from motion_module import ClipError

from .derived import context_length, frame_seeds, motion_scale
from .table import CANONICAL, MOVING_KINDS, NO_LOOP, SETTINGS, ClipSettings, Setting


def parse_settings(values: Mapping[str, Any]) -> ClipSettings:
    """Check what a person or a client gave, under any known name, and fill in the rest.

    Raises:
        ClipError: an unknown name (the nearest known one is named), a value of a wrong type or out of range.
    """
    given: dict[str, Any] = {}
    for name, value in values.items():
        canonical = CANONICAL.get(name)
        if canonical is None:
            _check_foreign(name, value)
        elif canonical in given and given[canonical] != value:
            raise ClipError(f"{name} and another name for {canonical} say different things. Give only {canonical}.")
        else:
            given[canonical] = value
    settings = ClipSettings(**{name: _checked(SETTINGS[name], value) for name, value in given.items()})
    _check_together(settings)
    return settings


def check_value(name: str, value: Any) -> None:
    """Check one value by itself, whatever it will be combined with.

    Raises:
        ClipError: it is of a wrong type or out of range.
    """
    _checked(SETTINGS[name], value)


def canonical_name(name: str) -> str | None:
    """The table's name for any name that a client may use; None for one that is not in the table."""
    return CANONICAL.get(name)


def _check_foreign(name: str, value: Any) -> None:
    if name not in PLAIN_VALUES:
        nearest = difflib.get_close_matches(name, [*CANONICAL, *PLAIN_VALUES], n=1, cutoff=0.5)
        hint = (
            f" Did you mean {nearest[0]}?"
            if nearest
            else f" Known names: {', '.join(name for name, s in SETTINGS.items() if not s.omit_default)}, ..."
        )
        raise ClipError(f"AnimateDiff knows no setting {reprlib.repr(name)}.{hint}")
    plain = PLAIN_VALUES[name]
    if plain is not None and value not in plain:
        raise ClipError(
            f"{name}={reprlib.repr(value)} is not supported by this version. Leave {name} out, or send {plain[0]!r}."
        )


def _checked(setting: Setting, value: Any) -> Any:
    if setting.type in (int, float):
        return _checked_number(setting, value)
    if setting.type is tuple:
        return _checked_several(setting, value)
    if setting.accepts_numbers:
        value = _numbers_as_text(value)
    if not isinstance(value, setting.type):
        wanted = "true or false" if setting.type is bool else "a text"
        raise ClipError(f"{setting.name} must be {wanted}, not {reprlib.repr(value)}.")
    if setting.choices and value not in setting.choices:
        raise ClipError(f"{setting.name} must be one of {', '.join(setting.choices)}, not {reprlib.repr(value)}.")
    if setting.parse is None:
        return value
    return setting.parse(str(value)) if str(value).strip() else setting.default


def _numbers_as_text(value: Any) -> Any:
    given = value if isinstance(value, (list, tuple)) else [value]
    if all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in given):
        return ", ".join(repr(item).removesuffix(".0") for item in given)
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
    if settings.closed_loop != NO_LOOP and settings.context_kind not in MOVING_KINDS:
        raise ClipError(
            f"A closed loop has no {settings.context_kind} windows. Set context_kind to uniform or looped, or "
            f"closed_loop to {NO_LOOP}."
        )
    if settings.effect_start > settings.effect_end:
        raise ClipError(
            f"effect_start={settings.effect_start:g} is after effect_end={settings.effect_end:g}: there would be no "
            "motion. Lower effect_start."
        )
    motion_scale(settings)
    frame_seeds(settings)
