"""How much a component acts on each frame of a clip, and on which rows of a UNet call that is.

A weight, a start and an end are one number each, or one for each frame, so that all three can travel over the clip.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lib_animatediff.engine.call import UNetCall, count_clips
from lib_animatediff.engine.host_tensor import HostTensor, Kept
from motion_module import ClipError

PerFrame = float | Sequence[float]
"""One number for all frames, or one per frame, of which the last one applies to all further frames."""


@dataclass(frozen=True)
class ControlledRows:
    """The rows of a call that a component acts on.

    Attributes:
        frames: those with a weight, in their order in each clip.
        index: of the rows among those of the call; None: all of them.
        weights: one for each of these rows, or one number for all.
    """

    frames: tuple[int, ...]
    index: HostTensor | None
    weights: HostTensor | float


class FrameAmounts:
    """The weights of a component, each within its part of the sampling.

    Args:
        name: of the component, for messages.
        weights: one per frame; the last one applies to all further frames.
        start, end: the part of the sampling in which it acts, from 0.0 to 1.0.

    Raises:
        ClipError: a weight is not finite, or the part of the sampling of a frame is empty.
    """

    def __init__(self, name: str, weights: Sequence[float], start: PerFrame = 0.0, end: PerFrame = 1.0) -> None:
        if not weights or not all(map(math.isfinite, weights)):
            raise ClipError(f"{name}: the weights of the frames must be finite numbers.", code="AD-H01")
        starts, ends = (tuple(each) if isinstance(each, Sequence) else (each,) for each in (start, end))
        self._parts = [
            (amount_at(starts, frame), amount_at(ends, frame)) for frame in range(max(len(starts), len(ends)))
        ]
        for first, last in self._parts:
            if not 0 <= first < last <= 1:
                raise ClipError(
                    f"{name}: control acts from a start of 0 or more to a later end, at most 1, not from {first:g} to "
                    f"{last:g}.",
                    code="AD-H02",
                )
        self._weights = tuple(weights)
        self._rows: Kept[ControlledRows] = Kept()

    def acting(self, progress: float) -> tuple[bool, ...]:
        """For each frame with a part of its own, whether it acts at a completed share of the sampling."""
        return tuple(acts_within(progress, *part) for part in self._parts)

    def rows(self, call: UNetCall) -> ControlledRows:
        """The rows of a call that it acts on.

        Raises:
            ClipError: the rows are not whole clips.
        """
        clips = count_clips(call.rows, len(call.frames))
        # Otherwise the progress is not read, which waits for the device.
        acting = self.acting(call.progress) if any(part != (0, 1) for part in self._parts) else (True,)
        key = (tuple(call.frames), clips, acting)
        return self._rows.get_or(key, lambda: controlled_rows(call.frames, clips, self._at_once(acting)))

    def _at_once(self, acting: Sequence[bool]) -> list[float]:
        frames = range(max(len(self._weights), len(acting)))
        return [amount_at(self._weights, frame) * amount_at(acting, frame) for frame in frames]


def controlled_rows(frames: Sequence[int], clips: int, weights: Sequence[float]) -> ControlledRows:
    """The rows of a call that have a weight.

    Args:
        frames: of the clip, in their order in the call.
        clips: in the call, ``k b``.
        weights: one for each frame of the clip; the last one applies to all further frames.
    """
    given = [amount_at(weights, frame) for frame in frames]
    places = [place for place, weight in enumerate(given) if weight != 0]
    index = None
    if len(places) < len(frames):
        index = HostTensor([clip * len(frames) + place for clip in range(clips) for place in places])
    own = [given[place] for place in places]
    return ControlledRows(
        frames=tuple(frames[place] for place in places),
        index=index,
        weights=own[0] if len(set(own)) == 1 else HostTensor(own * clips),
    )


def acts_within(progress: float, start: float, end: float) -> bool:
    """Whether a completed share of the sampling is in a part of it, which ends before its end unless that is 1."""
    return start <= progress and (progress < end or end == 1)


def amount_at(values: Sequence[float], frame: int) -> float:
    """The value of a frame, of which the last one applies to all further frames."""
    return values[min(frame, len(values) - 1)]
