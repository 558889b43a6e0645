"""Notations for a frame of a clip: ``8``, ``-1`` counted from the end, ``50%`` or ``.5`` of the duration."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from motion_module import ClipError

# The number of digits is limited, because Python refuses to parse integers of thousands of digits.
PLACE = r"-?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?%|\.[0-9]{1,9}%|[0-9]{0,9}\.[0-9]{1,9}|[0-9]{1,9})"
_PLACE = re.compile(PLACE)


def is_place(text: str) -> bool:
    """Whether a text is a valid notation, regardless of the clip's length."""
    return _PLACE.fullmatch(text) is not None


def frame_at(place: str, frames: int) -> int:
    """Index of the frame. ``0%`` is the first frame and ``100%`` the last; values in between are rounded.

    Raises:
        ClipError: the clip has no such frame. The message omits the setting's name; the caller adds it.
    """
    if place.endswith("%") or "." in place:
        part = Fraction(place.removesuffix("%").removesuffix(".")) / (100 if place.endswith("%") else 1)
        if not 0 <= part <= 1:
            raise ClipError(
                f"{place} is outside the clip. Use {'0% to 100%' if place.endswith('%') else '0.0 to 1.0'}.",
                code="AD-P01",
            )
        return math.floor(part * (frames - 1) + Fraction(1, 2))
    frame = int(place)
    if not -frames <= frame < frames:
        raise ClipError(
            f"the clip has no frame {frame}. Its {frames} frames are 0 to {frames - 1}, from the end -1 to -{frames}.",
            code="AD-P02",
        )
    return frame % frames
