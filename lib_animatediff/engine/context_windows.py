"""Context windows: clips of any length from a motion module with a limited number of frames.

At each sampling step, overlapping windows cover the clip. The UNet computes one window at a time. Where windows
overlap, their outputs are averaged with weights that decrease towards the ends of a window. Plans that move from step
to step hide the borders. The looped plan and its step order are those of ComfyUI AnimateDiff-Evolved ("looped
uniform"); the uniform plan covers every frame at every step and never leaves the clip.

A closed loop that fits into one window is rolled: at each step the window begins some frames later and wraps around
the clip's end (as in Mobius, arXiv 2502.20307), so that no two neighbouring frames stay its first and last one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import ClassVar

from motion_module import ClipError

Window = tuple[int, ...]
"""The frames of one window, in the order in which the motion module sees them."""

_STEP_BITS = 64
_GOLDEN = (3 - math.sqrt(5)) / 2  # of the circle


@dataclass(frozen=True)
class ContextWindows:
    """How windows cover a clip, and how their outputs are combined.

    Attributes:
        length: frames in a window; at most the motion module's trained length.
        overlap: minimum number of frames that neighbouring windows share; less than ``length``. ``"batched"`` has none.
        stride: levels of coverage at each step: 1 uses neighbouring frames only, 2 adds windows over every second
            frame, 3 over every fourth, and so on, if the clip is long enough. Couples distant frames.
        kind: ``"uniform"`` moves its windows from step to step; ``"looped"`` also wraps them around the end of the
            clip; ``"static"`` keeps them in place; ``"batched"`` places them without overlap.
        fusion: weight of an output by its position in the window: ``"flat"`` is constant, ``"pyramid"`` is largest in
            the middle, ``"overlap-linear"`` is a ramp over the overlap at both ends, except at the ends of the clip.
        closed: for ``"looped"``: as many windows across the end of the clip as elsewhere, for the smoothest loop. The
            only window of a short clip begins at another frame at each step.
        as_views: the whole clip passes through the UNet at once, and the windows apply inside the temporal attention
            only. Needs more memory; frames are more consistent.
        fuse_on_cpu: sum the outputs in main memory. Slower; for long clips on graphics cards with little memory.

    Raises:
        ClipError: the settings do not fit together.
    """

    length: int = 16
    overlap: int = 4
    stride: int = 1
    kind: str = "uniform"
    fusion: str = "pyramid"
    closed: bool = False
    as_views: bool = False
    fuse_on_cpu: bool = False

    def __post_init__(self) -> None:
        if self.length < 1:
            raise ClipError(f"A context window needs at least one frame, not {self.length}.", code="AD-G11")
        if not 0 <= self.overlap < self.length:
            raise ClipError(
                f"Context windows of {self.length} frames can overlap by 0 to {self.length - 1} frames, "
                f"not by {self.overlap}.",
                code="AD-G12",
            )
        if self.stride < 1:
            raise ClipError(f"The context stride must be 1 or more, not {self.stride}.", code="AD-G13")
        if self.kind not in WINDOW_KINDS:
            raise ClipError(
                f"There are no context windows of the kind {self.kind!r}. Use one of: {', '.join(WINDOW_KINDS)}.",
                code="AD-G14",
            )
        if self.fusion not in FUSIONS:
            raise ClipError(
                f"There is no fusion {self.fusion!r} of context windows. Use one of: {', '.join(FUSIONS)}.",
                code="AD-G15",
            )
        if self.closed and self.kind != _LOOPED:
            raise ClipError(
                f"Only looped context windows can close the loop, not {self.kind} ones. Use the kind 'looped'.",
                code="AD-G16",
            )

    def plan(self, frames: int, step: int) -> list[Window]:
        """The windows over a clip of ``frames`` frames at sampling step ``step``, counted from 0.

        Together they cover every frame. No window has a frame twice, or more than ``length`` frames. A clip that fits
        into one window is one window, which a closed loop rolls.
        """
        if frames <= self.length:
            start = step * _roll_per_step(frames) % frames if self.closed else 0
            return [(*range(start, frames), *range(start))]
        windows = self._looped(frames, step) if self.kind == _LOOPED else self._linear(frames, step)
        return list(dict.fromkeys(windows))

    def weights(self, window: Window, frames: int) -> list[float]:
        """The weight of each frame of ``window``, all above 0, in a clip of ``frames`` frames."""
        return FUSIONS[self.fusion](self, window, frames)

    def apply_to(self, frames: int) -> bool:
        """Whether they change a clip of ``frames`` frames: it is longer than a window, or a window that rolls."""
        return frames > self.length or (self.closed and frames > 1)

    @property
    def follows_steps(self) -> bool:
        """Whether the plan differs between sampling steps."""
        return self.closed or self.kind in _MOVING

    @property
    def wrap(self) -> bool:
        """Whether windows reach from the end of the clip to its beginning."""
        return self.kind == _LOOPED

    def reach(self, frames: int) -> int:
        """The distance from which on two frames are never in one window of a clip of ``frames`` frames.

        Without a loop it is the same for clips of any length. A loop counts the shorter way round the clip.
        """
        return self.length * (self._distances(frames)[-1] if self.wrap else 2 ** (self.stride - 1))

    def _linear(self, frames: int, step: int) -> Iterator[Window]:
        for distance in self._distances(frames):
            for phase in range(min(distance, frames)):
                part = range(phase, frames, distance)
                for start in _STARTS[self.kind](self, len(part), step) if len(part) > self.length else (0,):
                    yield tuple(part[start : start + self.length])

    def _looped(self, frames: int, step: int) -> Iterator[Window]:
        shift = low_discrepancy(step)
        begin = round(frames * shift)
        end = begin + frames - (0 if self.closed else self.overlap)
        for distance in self._distances(frames):
            for start in range(begin + int(shift * distance), end, self.length * distance - self.overlap):
                # In a clip shorter than length * distance, a window would reach frames twice.
                yield tuple(dict.fromkeys((start + i * distance) % frames for i in range(self.length)))

    def _distances(self, frames: int) -> list[int]:
        """Distance between neighbouring frames at each level; further levels would have half-empty windows."""
        useful = math.ceil(math.log2(max(frames / self.length, 1))) + 1
        return [2**level for level in range(min(self.stride, useful))]


@dataclass(frozen=True)
class Chunks:
    """Calls of ``length`` frames instead of context windows, for frames that attend to frame 0 only.

    Each call begins with frame 0, so that the result equals that of one call. The first call computes frame 0.

    Attributes:
        length: frames of a call, at least 2.
        fuse_on_cpu: sum the outputs in main memory.
    """

    length: int
    fuse_on_cpu: bool = False
    as_views: ClassVar[bool] = False
    follows_steps: ClassVar[bool] = False

    def apply_to(self, frames: int) -> bool:
        """Whether a clip of ``frames`` frames needs several calls."""
        return frames > self.length

    def plan(self, frames: int, _step: int) -> list[Window]:
        """The frames of each call, for a clip of several frames; the same at every step."""
        others = max(self.length - 1, 1)
        return [(0, *range(begin, min(begin + others, frames))) for begin in range(1, frames, others)]

    def weights(self, window: Window, _frames: int) -> list[float]:
        """1 for each frame that the call contributes, 0 for frame 0 of later calls."""
        return [float(window[1] == 1), *[1.0] * (len(window) - 1)]


def _roll_per_step(frames: int) -> int:
    """Frames by which a closed loop rolls at each step: nearest to the golden section of those that reach every frame.

    Steps that follow each other then begin far apart, and any run of steps is spread evenly over the clip.
    """
    coprime = (roll for roll in range(1, max(frames, 2)) if math.gcd(roll, frames) == 1)
    return min(coprime, key=lambda roll: abs(roll - _GOLDEN * frames))


def low_discrepancy(step: int) -> float:
    """Van der Corput sequence in base 2: 0, 1/2, 1/4, 3/4, 1/8, ...; any run of steps is spread evenly over 0..1."""
    return int(f"{step:0{_STEP_BITS}b}"[::-1], 2) / 2.0**_STEP_BITS


def _uniform_starts(windows: ContextWindows, frames: int, step: int) -> list[int]:
    """Fixed first and last windows, with as many as needed between them, which move within their surplus overlap."""
    last, advance = frames - windows.length, windows.length - windows.overlap
    gaps = math.ceil(last / advance)
    slack = gaps * advance - last
    if 2 * slack < advance:  # too little room to move: add a window
        gaps, slack = gaps + 1, slack + advance
    shift = round(low_discrepancy(step) * slack)
    between = (min(max(i * advance - shift, 0), last) for i in range(1, gaps))
    return sorted({0, *between, last})


def _static_starts(windows: ContextWindows, frames: int, _step: int) -> list[int]:
    last = frames - windows.length
    return [*range(0, last, windows.length - windows.overlap), last]


def _batched_starts(windows: ContextWindows, frames: int, _step: int) -> list[int]:
    return list(range(0, frames, windows.length))


_LOOPED = "looped"
_STARTS: dict[str, Callable[[ContextWindows, int, int], list[int]]] = {
    "uniform": _uniform_starts,
    "static": _static_starts,
    "batched": _batched_starts,
}
_MOVING = ("uniform", _LOOPED)
WINDOW_MEANINGS = {
    "uniform": "they move at each step, which hides seams",
    _LOOPED: "they also wrap around the end of the clip",
    "static": "they stay in place",
    "batched": "they do not overlap",
}
WINDOW_KINDS = tuple(WINDOW_MEANINGS)


def _flat(_windows: ContextWindows, window: Window, _frames: int) -> list[float]:
    return [1.0] * len(window)


def _pyramid(_windows: ContextWindows, window: Window, _frames: int) -> list[float]:
    return [float(min(i + 1, len(window) - i)) for i in range(len(window))]


def _overlap_linear(windows: ContextWindows, window: Window, frames: int) -> list[float]:
    # One neighbour's ramp and the other's add up to 1 where they overlap by exactly `overlap`.
    full, has_ends = windows.overlap + 1, windows.kind != _LOOPED
    rise = 1 if has_ends and 0 in window else full
    fall = 1 if has_ends and frames - 1 in window else full
    return [min((i + 1) / rise, (len(window) - i) / fall, 1.0) for i in range(len(window))]


FUSIONS: dict[str, Callable[[ContextWindows, Window, int], list[float]]] = {
    "flat": _flat,
    "pyramid": _pyramid,
    "overlap-linear": _overlap_linear,
}
