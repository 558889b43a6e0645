"""Checks of the values of settings. Every value is checked here, once."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from lib_animatediff.request.compat import CHECKBOX_VALUES, LISTS_WITH_SWITCH, PLAIN_VALUES, as_one_client
from motion_module import ClipError

from .derived import context_length, frame_seeds, interpolation, motion_scale
from .setting import Setting
from .table import CANONICAL, MOVING_KINDS, NO_LOOP, SETTINGS, ClipSettings

_NUMBER = re.compile(r"[-+]?(?:[0-9]{1,15}(?:\.[0-9]{0,15})?|\.[0-9]{1,15})")
_TRUTHS = {"true": True, "on": True, "yes": True, "1": True, "false": False, "off": False, "no": False, "0": False}
_TEXTS = ("request_id",)  # free texts, of which clients make numbers


def parse_settings(values: Mapping[str, Any]) -> ClipSettings:
    """Check settings under any known name and fill in the defaults of the others.

    Raises:
        ClipError: a name is unknown (the message suggests the closest one), or a value has the wrong type or is out of
            range.
    """
    given: dict[str, Any] = {}
    for name, value in as_one_client(values).items():
        canonical = CANONICAL.get(name)
        if value is None:  # as if it had not been sent
            if canonical is None and name not in PLAIN_VALUES:
                _check_foreign(name, value)
        elif canonical is None:
            _check_foreign(name, value)
        elif canonical in given and given[canonical] != value:
            raise ClipError(
                f"{name} contradicts another name of the setting {canonical}. Give only {canonical}.", code="AD-C02"
            )
        else:
            given[canonical] = value
    settings = ClipSettings(**{name: _checked(SETTINGS[name], value) for name, value in given.items()})
    _check_together(settings)
    return settings


def check_value(name: str, value: Any) -> None:
    """Check one value on its own, without the other settings.

    Raises:
        ClipError: the value has the wrong type or is out of range.
    """
    _checked(SETTINGS[name], value)


def canonical_name(name: str) -> str | None:
    """The canonical name of a setting or alias; None if the table has no such name."""
    return CANONICAL.get(name)


def _check_foreign(name: str, value: Any) -> None:
    if name not in PLAIN_VALUES:
        nearest = difflib.get_close_matches(name, [*CANONICAL, *PLAIN_VALUES], n=1, cutoff=0.5)
        hint = (
            f" Did you mean {nearest[0]}?"
            if nearest
            else f" Known settings: {', '.join(name for name, s in SETTINGS.items() if not s.omit_default)}, ..."
        )
        raise ClipError(f"AnimateDiff has no setting {reprlib.repr(name)}.{hint}", code="AD-C01")
    plain = PLAIN_VALUES[name]
    if plain is not None and value not in plain:
        raise ClipError(
            f"{name}={reprlib.repr(value)} is not supported. Leave {name} out, or send {plain[0]!r}.", code="AD-C03"
        )


def _checked(setting: Setting, value: Any) -> Any:
    value = _plain(setting, value)
    if setting.type in (int, float):
        return _checked_number(setting, value)
    if setting.type is tuple:
        return _checked_several(setting, value)
    if setting.accepts_numbers:
        value = _numbers_as_text(value)
    if not isinstance(value, setting.type):
        expected = "true or false" if setting.type is bool else "a string"
        if setting.accepts_numbers:
            expected = "a string, a number or a list of numbers"
        raise ClipError(f"{setting.name} must be {expected}, not {reprlib.repr(value)}.", code="AD-C04")
    if setting.choices and value not in setting.choices:
        raise ClipError(
            f"{setting.name} must be one of {', '.join(setting.choices)}, not {reprlib.repr(value)}.", code="AD-C05"
        )
    if setting.parse is None:
        return value
    return setting.parse(str(value)) if str(value).strip() else setting.default


def _plain(setting: Setting, value: Any) -> Any:
    """A value whose meaning is plain, such as ``"16"``, ``"true"`` or ``"r-p"``, in the form of the table."""
    if isinstance(value, list) and setting.name in LISTS_WITH_SWITCH and all(item in (0, 1, 2) for item in value):
        return LISTS_WITH_SWITCH[setting.name] in value
    if isinstance(value, bool):
        return CHECKBOX_VALUES.get(setting.name, {}).get(value, value)
    if isinstance(value, (int, float)):
        if setting.type is bool and value in (0, 1):
            return bool(value)
        return str(value) if setting.name in _TEXTS else value
    return _from_text(setting, value.strip(), value) if isinstance(value, str) else value


def _from_text(setting: Setting, word: str, value: str) -> Any:
    if setting.type is bool:
        return _TRUTHS.get(word.lower(), value)
    if setting.type in (int, float):
        return float(word) if _NUMBER.fullmatch(word) else value
    if setting.type is tuple:
        return [item.strip() for item in word.split(",")]
    return next((choice for choice in setting.choices if choice.lower() == word.lower()), value)


def _numbers_as_text(value: Any) -> Any:
    given = value if isinstance(value, (list, tuple)) else [value]
    if all(isinstance(item, (int, float)) and not isinstance(item, bool) for item in given):
        return ", ".join(repr(item).removesuffix(".0") for item in given)
    return value


def _checked_several(setting: Setting, value: Any) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not given or not all(isinstance(item, str) for item in given):
        raise ClipError(
            f"{setting.name} must be a list of {', '.join(setting.choices)}, not {reprlib.repr(value)}.", code="AD-C06"
        )
    known = {choice.lower(): choice for choice in setting.choices}
    for item in given:
        if item.lower() not in known:
            raise ClipError(
                f"{setting.name} does not support {reprlib.repr(item)}. Use {', '.join(setting.choices)}.",
                code="AD-C07",
            )
    return tuple(dict.fromkeys(known[item.lower()] for item in given))


def _checked_number(setting: Setting, value: Any) -> int | float:
    whole = setting.type is int
    if isinstance(value, bool) or not isinstance(value, (int, float)) or (whole and value % 1 != 0):
        raise ClipError(
            f"{setting.name} must be a {'whole ' if whole else ''}number, not {reprlib.repr(value)}.", code="AD-C08"
        )
    low, high = setting.minimum, setting.maximum
    if low is not None and high is not None and not low <= value <= high:
        raise ClipError(
            f"{setting.name} must be between {low:g} and {high:g}, not {reprlib.repr(value)}.", code="AD-C09"
        )
    return setting.type(value)  # type: ignore[no-any-return]


def _check_together(settings: ClipSettings) -> None:
    length = context_length(settings)
    if settings.overlap >= length:
        raise ClipError(
            f"overlap={settings.overlap} is not smaller than the context length ({length}). Set it below {length}.",
            code="AD-C10",
        )
    if settings.closed_loop != NO_LOOP and settings.context_kind not in MOVING_KINDS:
        raise ClipError(
            f"A closed loop does not work with {settings.context_kind} windows. Set context_kind to uniform or looped, "
            f"or closed_loop to {NO_LOOP}.",
            code="AD-C11",
        )
    if settings.effect_start > settings.effect_end:
        raise ClipError(
            f"effect_start={settings.effect_start:g} is later than effect_end={settings.effect_end:g}, so no step "
            "would have motion. Lower effect_start.",
            code="AD-C12",
        )
    if settings.guidance_start > settings.guidance_end:
        raise ClipError(
            f"guidance_start={settings.guidance_start:g} is later than guidance_end={settings.guidance_end:g}, so no "
            "step would have CFG. Lower guidance_start.",
            code="AD-C42",
        )
    motion_scale(settings)
    interpolation(settings)
    frame_seeds(settings)
