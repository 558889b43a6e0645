"""Measure how evenly a clip moves: between consecutive frames, at its loop point and where its windows meet.

A change is the mean absolute difference of two frames' luminance, 0 to 1, in linear light and at low resolution, so
that grain and dithering do not count. A seam is a change much larger than the clip's median.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from .pixels import levels_of

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

_SIDE = 64  # pixels of the longer side, at which changes are measured
_GAMMA = 2.2
_LUMINANCE = (0.2126, 0.7152, 0.0722)  # BT.709
_LEAST = 1e-4  # lower bound of the median, for still clips: one 8-bit level of a dark grey


@dataclass(frozen=True)
class Motion:
    """Measured changes of a clip.

    Attributes:
        changes: ``changes[i]`` is the change from frame i to frame i + 1.
        loop: change from the last frame to the first.
        borders: frames at which a window begins; the seam is between such a frame and the previous one.
    """

    changes: tuple[float, ...]
    loop: float
    borders: tuple[int, ...] = ()

    @property
    def usual(self) -> float:
        """Median change, at least `_LEAST`, so that it can be a divisor."""
        return max(median(self.changes) if self.changes else 0.0, _LEAST)

    @property
    def worst_seam(self) -> float | None:
        """Largest change at a border relative to the median: 1 means no visible seam. None without borders."""
        at_borders = [self.changes[border - 1] for border in self.borders]
        return max(at_borders) / self.usual if at_borders else None

    @property
    def worst_border(self) -> int | None:
        """Frame after the worst seam."""
        return max(self.borders, key=lambda border: self.changes[border - 1], default=None)

    @property
    def loop_seam(self) -> float:
        """Change at the loop point relative to the median: 1 means a seamless loop."""
        return self.loop / self.usual


def measure(frames: Iterable[Image], borders: Sequence[int] = ()) -> Motion:
    """Measure a clip. Two small images are in memory at a time.

    Args:
        frames: frames in playback order.
        borders: frames at which a context window begins; those outside the clip are ignored.
    """
    changes: list[float] = []
    first = last = None
    for seen in map(_luminance, frames):
        if last is not None:
            changes.append(_difference(last, seen))
        first = seen if first is None else first
        last = seen
    loop = _difference(last, first) if first is not None and last is not None else 0.0
    inside = sorted({border for border in borders if 0 < border <= len(changes)})
    return Motion(tuple(changes), loop, tuple(inside))


def _luminance(frame: Image) -> Tensor:
    import torch
    from PIL import Image

    share = min(1.0, _SIDE / max(frame.size))
    size = (max(round(frame.width * share), 1), max(round(frame.height * share), 1))
    small = frame.convert("RGB").resize(size, Image.Resampling.BILINEAR)
    pixels = levels_of(small).view(-1, 3).double() / 255
    return pixels.pow(_GAMMA) @ torch.tensor(_LUMINANCE, dtype=torch.float64)


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().mean())
