"""The fields of a manifest: the options of `animate` that determine a clip."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import click

from lib_animatediff.cli.animate import animate
from lib_animatediff.jobs.many.errors import ManifestError
from lib_animatediff.jobs.many.grid import Field

_CUTOFF = 0.75  # of the likeness of two names, from which one may have been meant; promt is 0.9 like prompt
_OF_THE_RUN = {  # parameters of `animate` that are no fields, and what there is instead
    "device": "All clips have the devices of the run: --devices.",
    "contact_sheet": "The run writes one for all clips.",
    "camera_drawing": "Draw the path with animate.",
    "as_json": "It is an option of the run: --json.",
    "ray": "It is an option of the run, which gives whole clips to workers: --ray.",
}
_PARAMETERS = {
    parameter.name: parameter
    for parameter in animate.params
    if isinstance(parameter, click.Option) and parameter.name and parameter.name not in _OF_THE_RUN
}
_NUMBERS = (click.types.IntParamType, click.types.FloatParamType)
FIELDS = {
    name: Field(multiple=parameter.multiple, number=isinstance(parameter.type, _NUMBERS))
    for name, parameter in _PARAMETERS.items()
}
# By option, such as lora, and by parameter, such as loras, so that the fields in failed.jsonl are a row again.
_NAMES = {name: name for name in _PARAMETERS} | {
    option.removeprefix("--").replace("-", "_"): name
    for name, parameter in _PARAMETERS.items()
    for option in parameter.opts
}
OUTPUT, SEED = "output", "seed"
Named = Callable[[Mapping[str, Any]], dict[str, Any]]
"""The fields of a row by their own names, such as `named`."""
_YES, _NO = ("true", "yes", "on", "1"), ("false", "no", "off", "0", "")


def named(row: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a row by the names of the parameters of `animate`; null is a field that is not given.

    Raises:
        ManifestError: there is no such field, or it occurs twice.
    """
    return by_name(row, _NAMES, _OF_THE_RUN)


def by_name(row: Mapping[str, Any], names: Mapping[str, str], of_the_run: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a row by their own names.

    Args:
        names: every name that a field may have, with its own one.
        of_the_run: what is no field, and what there is instead.

    Raises:
        ManifestError: there is no such field, or it occurs twice.
    """
    found: dict[str, Any] = {}
    for given, value in row.items():
        name = names.get(given.strip().lower().replace("-", "_"))
        if name is None:
            raise _unknown(given, names, of_the_run)
        if name in found:
            raise ManifestError(f"{given} is given twice, by two names. Remove one of them.", code="AD-M20")
        found[name] = value
    return found


def words_of(clip: Mapping[str, Any]) -> list[str]:
    """The options of `animate` for a clip.

    Raises:
        ManifestError: a value has a type that no option has.
    """
    words: list[str] = []
    for name, value in clip.items():
        parameter = _PARAMETERS[name]
        option = parameter.opts[0]
        if value is None:
            continue
        if parameter.is_flag:
            words += [option] * _is_set(option, value)
            continue
        # As one word, since a value can begin with a dash.
        words += [f"{option}={_text(option, one)}" for one in (value if parameter.multiple else [value])]
    return words


def _is_set(option: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in (*_YES, *_NO):
        raise ManifestError(f"{option[2:]} is {value!r:.40}, and must be true or false.", code="AD-M21")
    return word in _YES


def _text(option: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise ManifestError(
            f"{option[2:]} is {value!r:.40}, which is neither text nor a number. Write text in quotes.", code="AD-M22"
        )
    text = str(value)
    if "\0" in text:
        raise ManifestError(f"{option[2:]} contains a NUL character. Remove it.", code="AD-M23")
    return text


def _unknown(given: str, names: Mapping[str, str], of_the_run: Mapping[str, str]) -> ManifestError:
    name = given.strip().lower().replace("-", "_")
    near = get_close_matches(name, names, 1, _CUTOFF)
    otherwise = f"Did you mean {near[0]}?" if near else "Use the options of animate, without the dashes."
    advice = of_the_run.get("as_json" if name == "json" else name, otherwise)
    return ManifestError(f"There is no field {given!r:.60}. {advice}", code="AD-M24")
