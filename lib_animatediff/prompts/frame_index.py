"""How people name a frame of a clip: ``8``, ``-1`` from its end, ``50%`` or ``.5`` of the way."""

from __future__ import annotations

import math
import re
from fractions import Fraction

from motion_module import ClipError

# Digits have a limit, since a number of thousands of them is an exception in Python.
PLACE = r"-?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?%|\.[0-9]{1,9}%|[0-9]{0,9}\.[0-9]{1,9}|[0-9]{1,9})"
_PLACE = re.compile(PLACE)


def is_place(text: str) -> bool:
    """Whether a text names a frame, of whatever clip."""
    return _PLACE.fullmatch(text) is not None


def frame_at(place: str, frames: int) -> int:
    """The frame, counted from 0. ``0%`` is the first and ``100%`` the last; between them the nearest.

    Raises:
        ClipError: the clip has no such frame; a sentence without a subject, for whoever knows where it stands.
    """
    if place.endswith("%") or "." in place:
        part = Fraction(place.removesuffix("%").removesuffix(".")) / (100 if place.endswith("%") else 1)
        if not 0 <= part <= 1:
            raise ClipError(
                f"{place} is outside the clip, which goes from {'0% to 100%' if place.endswith('%') else '0.0 to 1.0'}."
            )
        return math.floor(part * (frames - 1) + Fraction(1, 2))
    frame = int(place)
    if not -frames <= frame < frames:
        raise ClipError(
            f"the clip has no frame {frame}. Its {frames} frames are 0 to {frames - 1}, from the end -1 to -{frames}."
        )
    return frame % frames
