"""The field of the table that makes a clip smoother."""

from __future__ import annotations

from lib_animatediff.request.interpolation import OFF, OFFERED, checked_interpolation

from .setting import OUTPUT, further

INTERPOLATE = further(
    OFF,
    "Frame interpolation",
    "Adds frames by optical flow and keeps the speed: x2, x3, x4, or the frames per second of the file, such as 24. "
    "Fast motion is blended.",
    OUTPUT,
    accepts_numbers=True,
    parse=checked_interpolation,
    suggestions=OFFERED,
)
