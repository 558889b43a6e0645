"""Frame times without drift: rates are fractions, and frame boundaries are rounded instead of durations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from typing import TypeVar, overload

from motion_module import ClipError

from .spool import SpooledFrames

Frame = TypeVar("Frame")

_NTSC_RATES = [Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)]
_NTSC_TOLERANCE = Fraction(1, 200)  # users write 23.976 or 23.98 for 24000/1001
_LARGEST_DENOMINATOR = 1001
_MILLISECONDS = 1000
GIF_TICKS = 100  # GIF counts time in hundredths of a second


@overload
def ping_pong(frames: SpooledFrames) -> SpooledFrames: ...  # type: ignore[overload-overlap]


@overload
def ping_pong(frames: Sequence[Frame]) -> list[Frame]: ...


def ping_pong(frames: Sequence[Frame] | SpooledFrames) -> list[Frame] | SpooledFrames:
    """The frames followed by their reverse, without repeating either end; frames on demand stay so."""
    if isinstance(frames, SpooledFrames):
        return frames.in_order([*range(len(frames)), *range(len(frames) - 2, 0, -1)])
    return [*frames, *frames[-2:0:-1]]


def exact_fps(fps: float | Fraction) -> Fraction:
    """The intended rate as a fraction: 23.976 is 24000/1001, 29.97 is 30000/1001, 7.5 is 15/2.

    Raises:
        ClipError: it is not a positive number.
    """
    if isinstance(fps, bool) or not isinstance(fps, (int, float, Fraction)) or not math.isfinite(fps) or fps <= 0:
        raise ClipError(f"fps must be a number above 0, not {fps!r}.", code="AD-V20")
    if isinstance(fps, Fraction):
        return fps
    for rate in _NTSC_RATES:
        if abs(rate - Fraction(fps)) < _NTSC_TOLERANCE:
            return rate
    near = Fraction(fps).limit_denominator(_LARGEST_DENOMINATOR)
    return near or Fraction(fps)  # slower than a frame in a thousand seconds


def edges(frames: int, fps: Fraction, ticks_per_second: int) -> list[int]:
    """Start of each frame and end of the last one, in ticks; each is exact to half a tick."""
    return [round(index * ticks_per_second / fps) for index in range(frames + 1)]


def frame_durations(frames: int, fps: float | Fraction, ticks_per_second: int = GIF_TICKS) -> list[int]:
    """Frame durations in milliseconds: whole ticks that add up to the clip's length (at 8 fps: 120, 130, ...)."""
    tick = _MILLISECONDS // ticks_per_second
    return [(after - before) * tick for before, after in pairwise(edges(frames, exact_fps(fps), ticks_per_second))]
