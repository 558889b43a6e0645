"""The grammar of `interpolate`: off, a multiple of the clip's rate such as x3, or frames per second such as 24."""

from __future__ import annotations

import re
import reprlib
from fractions import Fraction

from lib_animatediff.request.compat import LARGEST_FACTOR
from lib_animatediff.video import exact_fps
from lib_animatediff.video.interpolators import AUTO, DIS, RIFE
from motion_module import ClipError

from .setting import OUTPUT, further

OFF = "off"
OFFERED = (OFF, "x2", "x3", "x4")
INTERPOLATORS = (AUTO, DIS, RIFE)
FASTEST = 240.0  # frames per second of a file; screens show fewer, and WebP counts in milliseconds
_FACTOR = re.compile(r"x\s*(\d{1,2})|(\d{1,2})\s*x", re.IGNORECASE)
_FPS = re.compile(r"(\d{1,3}(?:\.\d{1,6})?)(?:\s*fps)?", re.IGNORECASE)
_NOTHING = (OFF, "none", "no", "false", "0", "1", "x1", "1x")


def checked_interpolation(text: str) -> str:
    """The text in its shortest form: ``"off"``, ``"x2"`` or ``"24"``.

    Raises:
        ClipError: it is none of these, or out of range.
    """
    word = text.strip().lower()
    if word in _NOTHING:
        return OFF
    if factor := _FACTOR.fullmatch(word):
        number = int(factor[1] or factor[2])
        if 1 < number <= LARGEST_FACTOR:
            return f"x{number}"
    elif (fps := _FPS.fullmatch(word)) and 1 <= float(fps[1]) <= FASTEST:
        return f"{float(fps[1]):g}"
    raise ClipError(
        f"interpolate must be off, x2 to x{LARGEST_FACTOR}, or frames per second up to {FASTEST:g} such as 24, not "
        f"{reprlib.repr(text)}.",
        code="AD-C60",
    )


def shown_fps(interpolate: str, fps: float) -> Fraction:
    """Frames per second of the file, at least those of the clip.

    Args:
        interpolate: as `checked_interpolation` returns it.
        fps: frames per second of the clip.
    """
    made_for = exact_fps(fps)
    if interpolate == OFF:
        return made_for
    if interpolate.startswith("x"):
        return made_for * int(interpolate[1:])
    return max(exact_fps(float(interpolate)), made_for)


def checked_interpolator(text: str) -> str:
    """One of `INTERPOLATORS`, or the name of a file."""
    word = text.strip()
    return word.lower() if word.lower() in INTERPOLATORS else word


INTERPOLATE = further(
    OFF,
    "Frame interpolation",
    "Adds frames in between and keeps the speed: x2, x3, x4, or the frames per second of the file, such as 24.",
    OUTPUT,
    accepts_numbers=True,
    parse=checked_interpolation,
    suggestions=OFFERED,
)
INTERPOLATOR = further(
    AUTO,
    "Interpolator",
    "What adds frames: dis (optical flow), rife (a network for fast motion), a file of RIFE, or auto: rife if it is "
    "installed and motion is fast.",
    OUTPUT,
    parse=checked_interpolator,
    suggestions=INTERPOLATORS,
)
