"""A row of a manifest as the clips that it asks for.

A field has several values as a list, as a range such as ``1..8`` or ``0.5..1.5:0.25`` of a number, or as ``{a|b}``
inside a text. A row asks for one clip for each combination; the last field changes first.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from motion_module.limits import MANIFEST_CLIPS, NUMBER_DIGITS

from .errors import ManifestError

_NUMBER = rf"-?[0-9]{{1,{NUMBER_DIGITS}}}(?:\.[0-9]{{1,{NUMBER_DIGITS}}})?"
_RANGE = re.compile(rf"\s*({_NUMBER})\s*\.\.\s*({_NUMBER})(?:\s*:\s*({_NUMBER}))?\s*")
_BRACES = re.compile(r"(?<!\\)\{([^{}|]*(?:\|[^{}|]*)+)\}")
_HALF = re.compile(r"(?<!\\)\{[^{}]*\|[^{}]*$|^[^{}]*\|[^{}]*\}")  # what is left of braces within others
_ESCAPED = "\\{"


@dataclass(frozen=True)
class Field:
    """What a grid needs to know of a field.

    Attributes:
        multiple: whether one clip can have several values of it, so that a list is no grid.
        number: whether it is a number, so that ``1..8`` is a range.
    """

    multiple: bool = False
    number: bool = False


def clips_of(row: Mapping[str, Any], fields: Mapping[str, Field]) -> Iterator[dict[str, Any]]:
    """The clips of a row, one after the other.

    Args:
        row: its values by the names of fields.
        fields: every field of the row.

    Raises:
        ManifestError: a range or a list is wrong. Nothing was yielded.
    """
    values = [_first(_values(name, value, fields[name])) for name, value in row.items()]
    for chosen in itertools.product(*values):
        yield dict(zip(row, chosen, strict=True))


def _first(values: Iterator[Any]) -> list[Any]:
    """At most one value more than a manifest may have clips, since a text of a few characters can ask for billions."""
    return list(itertools.islice(values, MANIFEST_CLIPS + 1))


def _values(name: str, value: Any, field: Field) -> Iterator[Any]:
    if isinstance(value, list):
        return _of_list(name, value, field)
    values = _of_text(name, value, field.number) if isinstance(value, str) else iter((value,))
    return ([each] for each in values) if field.multiple else values


def _of_list(name: str, value: list[Any], field: Field) -> Iterator[Any]:
    if not value:
        raise ManifestError(f"{name} is an empty list. Give a value, or leave the field out.", code="AD-M14")
    if not field.multiple:
        return itertools.chain.from_iterable(_values(name, each, field) for each in _plain(name, value))
    lists = [each for each in value if isinstance(each, list)]
    if not lists:
        return _combined(name, value)
    if len(lists) < len(value):
        raise ManifestError(f"{name} mixes values and lists. Write a list for each clip.", code="AD-M15")
    return itertools.chain.from_iterable(_combined(name, _plain(name, each)) for each in lists)


def _combined(name: str, values: Iterable[Any]) -> Iterator[list[Any]]:
    """Several values of one clip, whose texts may contain braces."""
    each = [_first(_of_text(name, one, False)) if isinstance(one, str) else [one] for one in values]
    return map(list, itertools.product(*each))


def _plain(name: str, values: list[Any]) -> list[Any]:
    if any(isinstance(each, list) for each in values):
        raise ManifestError(f"{name} has lists within lists. Write one list of values.", code="AD-M16")
    return values


def _of_text(name: str, text: str, number: bool) -> Iterator[str]:
    if number and (found := _RANGE.fullmatch(text)):
        return _range(name, *found.groups())
    return _braces(name, text)


def _range(name: str, first: str, last: str, step: str | None) -> Iterator[str]:
    """The numbers from the first to the last one, both included where the step meets it. They are exact."""
    start, end, by = Decimal(first), Decimal(last), Decimal(step or 1)
    if by <= 0:
        raise ManifestError(f"{name}: the step of {first}..{last}:{step} must be above 0.", code="AD-M17")
    toward = by if end >= start else -by
    return _counted(start, toward, int(abs(end - start) / by))


def _counted(start: Decimal, by: Decimal, steps: int) -> Iterator[str]:
    return (format(start + by * number, "f") for number in range(steps + 1))


def _braces(name: str, text: str) -> Iterator[str]:
    """The texts with one choice of each pair of braces. A backslash before a brace keeps it."""
    parts = _BRACES.split(text)
    if any(map(_HALF.search, parts[::2])):
        raise ManifestError(
            f"{name} has braces within braces, or one of them is missing. Write {{a|b|c}}.", code="AD-M18"
        )
    choices = [part.split("|") if place % 2 else [part.replace(_ESCAPED, "{")] for place, part in enumerate(parts)]
    return map("".join, itertools.product(*choices))
