"""More frames for a clip that plays as long as before: the frames in between come from optical flow.

A clip is a line of positions: 0 is its first frame, 1 the next, 0.5 is halfway. `Interpolation` says which positions a
file shows, and `interpolate` makes the frames there one by one, with three frames in memory. A position at a frame is
that frame, unchanged.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import chain, pairwise
from typing import TYPE_CHECKING

from .encoding import channels_of
from .interpolators import Interpolator, Pair
from .spool import SpooledFrames

if TYPE_CHECKING:
    from PIL.Image import Image

FEWEST_TO_REVERSE = 3  # with fewer frames the way back has no frame of its own


@dataclass(frozen=True)
class Interpolation:
    """How a clip is shown at a higher rate than it was made for.

    Attributes:
        made_for: frames per second at which the frames show the speed that is meant.
        shown_at: frames per second of the file.
        ping_pong: whether the clip plays back to its beginning.
        is_loop: whether the last frame leads to the first.
        interpolator: what makes the frames in between.
    """

    made_for: Fraction
    shown_at: Fraction
    ping_pong: bool = False
    is_loop: bool = False
    interpolator: Interpolator = field(default_factory=Interpolator)

    def positions(self, frames: int) -> list[Fraction]:
        """The position of each frame of the file.

        The file is as long as the clip to half a frame; exactly, if one rate is a multiple of the other. A clip that
        goes round is divided evenly, so that its end meets its beginning. Any other clip ends with its last frame,
        which stays as long as before. A clip that plays back shows the frames of the way there in reverse.
        """
        goes_back = self.ping_pong and frames >= FEWEST_TO_REVERSE
        played = 2 * frames - 2 if goes_back else frames
        count = max(round(played * self.shown_at / self.made_for), 1)
        if goes_back:
            last = Fraction(frames - 1)
            return [last - abs(last - Fraction(number * played, count)) for number in range(count)]
        if self.is_loop:
            return [Fraction(number * frames, count) for number in range(count)]
        step = self.made_for / self.shown_at
        return [min(number * step, Fraction(frames - 1)) for number in range(count)]

    def count(self, frames: int) -> int:
        """Number of frames of the file."""
        return len(self.positions(frames))

    def apply(self, frames: Sequence[Image]) -> SpooledFrames:
        """The frames of the file in the order of playback, made when they are read.

        Args:
            frames: of one size, each once, without the way back.

        Raises:
            AnimateDiffError: OpenCV is missing, or the file of RIFE cannot be used; raised when frames are read.
        """
        positions = self.positions(len(frames))
        distinct = sorted(set(positions))
        mode = channels_of(frames)
        coming = (image.tobytes() for image in interpolate(_in_mode(frames, mode), distinct, self.interpolator))
        made = SpooledFrames(coming, len(distinct), _size_of(frames), mode)
        place_of = {position: place for place, position in enumerate(distinct)}
        return made.in_order([place_of[position] for position in positions])


def interpolate(
    frames: Iterable[Image], positions: Iterable[Fraction], interpolator: Interpolator | None = None
) -> Iterator[Image]:
    """The frames at the given positions. Three frames of the clip are in memory at a time.

    Args:
        frames: of one size, in RGB or RGBA.
        positions: in ascending order, from 0. After the last frame the clip goes on to its first.
        interpolator: None: DIS flow.

    Yields:
        Images in the mode of the frames. Those at a whole position are the frames themselves. At a cut, the frame
        before it stays until the frame after it.

    Raises:
        AnimateDiffError: OpenCV is missing, or the file of RIFE cannot be used.
    """
    import numpy as np
    from PIL import Image

    interpolator = interpolator or Interpolator()
    coming = iter(frames)
    first = next(coming)
    pairs = enumerate(pairwise(chain([first], coming, [first])))
    number, (before, after) = next(pairs)
    pair: Pair | None = None
    for position in positions:
        while number < math.floor(position):
            number, (before, after) = next(pairs)
            pair = None
        if position == number:
            yield before
            continue
        pair = pair or interpolator.pair(np.asarray(before), np.asarray(after))
        yield Image.fromarray(pair.at(float(position - number)), before.mode)


def _size_of(frames: Sequence[Image]) -> tuple[int, int]:
    """The size without making a frame."""
    return frames.size if isinstance(frames, SpooledFrames) else frames[0].size


def _in_mode(frames: Iterable[Image], mode: str) -> Iterator[Image]:
    return (frame if frame.mode == mode else frame.convert(mode) for frame in frames)
