"""What made a clip, as text and as JSON: the part that every container shares.

The text is the WebUI's infotext, as it stands in its images. The JSON block holds what it takes to render the clip
again; it lies where no viewer shows it, is plain ASCII, and says how the clip plays for containers that cannot.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from motion_module import ClipError

_MARK = "animatediff_recipe"  # tells our block from other programs' JSON
_VERSION = 1


@dataclass(frozen=True)
class Recipe:
    """What made a clip.

    Attributes:
        infotext: as the WebUI writes it. Characters that no file can hold become ``?``; a NUL becomes a space.
        data: all that is needed to render it again, as JSON; None where the file holds no block of ours.
        fps: frames per second of a clip that was read; None where the file holds no block of ours.
        loop_count: how often such a clip plays, 0 for ever.

    Raises:
        ClipError: ``data`` is no JSON object.
    """

    infotext: str = ""
    data: Mapping[str, Any] | None = None
    fps: Fraction | None = None
    loop_count: int | None = None

    def __post_init__(self) -> None:
        # Containers end texts at a NUL, and half a surrogate pair is no Unicode; neither may cost the clip.
        clean = self.infotext.replace("\0", " ").encode(errors="replace").decode()
        object.__setattr__(self, "infotext", clean)
        if self.data is not None:
            object.__setattr__(self, "data", _checked(self.data))

    def block(self, fps: Fraction, loop_count: int) -> str:
        """The JSON block of a clip that plays so."""
        return json.dumps(
            {_MARK: _VERSION, "fps": str(fps), "loop_count": loop_count, "data": self.data}, separators=(",", ":")
        )


def recipe_from(infotext: str, block: str | bytes | None) -> Recipe:
    """What a file says; whatever is no block of ours, or is broken, counts as none."""
    try:
        held = json.loads(block or "null")
        if not isinstance(held, dict) or not isinstance(held[_MARK], int):
            return Recipe(infotext)
        return Recipe(infotext, held["data"], Fraction(held["fps"]), int(held["loop_count"]))
    except (ValueError, TypeError, KeyError, ZeroDivisionError, RecursionError, ClipError):
        return Recipe(infotext)


def _checked(data: Mapping[str, Any]) -> dict[str, Any]:
    """A copy that is what a reader will get; what JSON would change on the way is refused."""
    try:
        copy = json.loads(json.dumps(data, allow_nan=False)) if isinstance(data, Mapping) else None
    except (TypeError, ValueError, RecursionError) as error:
        raise ClipError(f"A recipe's data must be JSON: {error}.") from error
    if not isinstance(copy, dict) or not _same(copy, data):
        raise ClipError("A recipe's data must be a JSON object, with texts as names.")
    return copy


def _same(copy: Any, data: Any) -> bool:
    if isinstance(copy, dict):
        return copy.keys() == data.keys() and all(_same(value, data[key]) for key, value in copy.items())
    if isinstance(copy, list):
        return all(map(_same, copy, data))
    return bool(copy == data)
