"""The recipe of a clip, as infotext and as JSON: the part that all containers share.

The infotext is that of the WebUI's images. The JSON block holds everything needed to render the clip again, and its
rate and loop count for containers that cannot store them. It is ASCII, and is embedded where viewers do not display it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from motion_module import ClipError
from motion_module.limits import FASTEST, LOOP_COUNT, NUMBER_DIGITS, SLOWEST, parse_json

_MARK = "animatediff_recipe"  # distinguishes our block from the JSON of other programs
_VERSION = 1
_DIGITS = rf"[0-9]{{1,{NUMBER_DIGITS}}}"
_RATE = re.compile(rf"{_DIGITS}(?:\.{_DIGITS}|/(?P<below>{_DIGITS}))?")


@dataclass(frozen=True)
class Recipe:
    """The recipe of a clip.

    Attributes:
        infotext: in the WebUI's format. Characters that files cannot store become ``?``, and NUL becomes a space.
        data: everything needed to render the clip again, as JSON; None if the file has no block of ours.
        fps: frames per second, if read from a file; None if the file has no block of ours.
        loop_count: number of times the clip plays, if read from a file; 0 for infinite.

    Raises:
        ClipError: ``data`` is not a JSON object.
    """

    infotext: str = ""
    data: Mapping[str, Any] | None = None
    fps: Fraction | None = None
    loop_count: int | None = None

    def __post_init__(self) -> None:
        # Containers truncate text at a NUL, and lone surrogates cannot be encoded; neither may prevent writing a clip.
        clean = self.infotext.replace("\0", " ").encode(errors="replace").decode()
        object.__setattr__(self, "infotext", clean)
        if self.data is not None:
            object.__setattr__(self, "data", _checked(self.data))

    def block(self, fps: Fraction, loop_count: int) -> str:
        """The JSON block of a clip with this rate and loop count."""
        return json.dumps(
            {_MARK: _VERSION, "fps": str(fps), "loop_count": loop_count, "data": self.data}, separators=(",", ":")
        )


def recipe_from(infotext: str, block: str | bytes | None) -> Recipe:
    """The recipe in a file's texts. A foreign or damaged block counts as none."""
    try:
        held = parse_json(block or "null")
        if not isinstance(held, dict) or not isinstance(held[_MARK], int):
            return Recipe(infotext)
        return Recipe(infotext, held["data"], _rate(held["fps"]), _loop_count(held["loop_count"]))
    except (ValueError, TypeError, KeyError, RecursionError, ClipError):
        return Recipe(infotext)


def _rate(stated: Any) -> Fraction:
    """The rate in a block, which is written as a whole number or a fraction of two.

    Anything else is not ours: `Fraction` would compute ``1e100000000`` for hours.
    """
    match = _RATE.fullmatch(str(stated) if isinstance(stated, (str, int, float)) else "")
    fps = Fraction(match[0]) if match and not isinstance(stated, bool) and _divides(match["below"]) else 0
    if not SLOWEST <= fps <= FASTEST:
        raise ValueError("the rate is not a positive number")
    return Fraction(fps)


def _divides(below: str | None) -> bool:
    return below is None or int(below) > 0


def _loop_count(stated: Any) -> int:
    if not isinstance(stated, int) or isinstance(stated, bool) or not 0 <= stated <= LOOP_COUNT:
        raise ValueError("the loop count is out of range")
    return stated


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy after a round trip through JSON, which must not change anything."""
    try:
        copy = json.loads(json.dumps(data, allow_nan=False)) if isinstance(data, Mapping) else None
    except (TypeError, ValueError, RecursionError) as error:
        raise ClipError(f"The data of a recipe must be JSON: {error}.", code="AD-V18") from error
    if not isinstance(copy, dict) or not _same(copy, data):
        raise ClipError("The data of a recipe must be a JSON object with strings as keys.", code="AD-V19")
    return copy


def _same(copy: Any, data: Any) -> bool:
    if isinstance(copy, dict):
        return copy.keys() == data.keys() and all(_same(value, data[key]) for key, value in copy.items())
    if isinstance(copy, list):
        return all(map(_same, copy, data))
    return bool(copy == data)
