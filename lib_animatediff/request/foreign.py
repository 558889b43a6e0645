"""Notes about arguments of the existing extension that have no effect here, or another one than there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .compat import FILM_FACTOR, PLAIN_VALUES, asks_for_film
from .effects import Note

_FOREIGN_DEFAULTS = {"interp_x": 10}  # what its clients send by themselves


def foreign_notes(values: Mapping[str, Any]) -> tuple[Note, ...]:
    """A note about each changed argument of the existing extension that has no effect or another one than there."""
    films = asks_for_film(values)
    names = [name for name, known in PLAIN_VALUES.items() if known is None and not (films and name == FILM_FACTOR)]
    in_its_place = (Note("interp", "adds frames by optical flow or RIFE instead of FILM, as interpolate does."),)
    return (*in_its_place * films, *_tuning_nothing(names, values))


def _tuning_nothing(names: Iterable[str], values: Mapping[str, Any]) -> Iterator[Note]:
    return (
        Note(name, "has no effect, since it tunes a feature of the existing extension that is not supported.")
        for name in names
        if name in values and values[name] not in (None, _FOREIGN_DEFAULTS.get(name))
    )
