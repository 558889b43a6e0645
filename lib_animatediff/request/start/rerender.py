"""A finished clip of which some frames are rendered again: all others are pinned, and keep their pixels."""

from __future__ import annotations

import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from lib_animatediff.video.fitting import STEP, Size
from lib_animatediff.video.source import Source, examine
from motion_module import ClipError

from .pins import INVERSION, STRENGTH, Pin, PinnedFrames
from .video import VideoStart

# Strengths of the frames beside one that stays, and of those behind them. With the built-in model, 20 of 24 clips have
# no visible seam with them, and 17 from noise alone: `tools/benchmarks/rerender_seams.py`.
RAMP = (0.5, 0.7, 0.85)
_RANGE = re.compile(r"(\d{1,9})(?:\s*-\s*(\d{1,9}))?")
_NO_INTERPOLATION = "off"  # of the setting interpolate


@dataclass(frozen=True)
class Rerender:
    """What a clip starts from of which some frames are rendered again.

    Attributes:
        path: file of the clip.
        frames, fps, size: of the clip.
        again: numbers of the frames that are rendered again, ascending.
        strength: how much of them is replaced at most. Frames near one that stays start from what they show.
        ramp: strengths by the distance from a frame that stays, from 1 on.
    """

    path: Path
    frames: int
    fps: Fraction
    size: Size
    again: tuple[int, ...]
    strength: float = 1.0
    ramp: tuple[float, ...] = RAMP

    @property
    def pins(self) -> tuple[Pin, ...]:
        """The other frames, pinned to what they show."""
        again = set(self.again)
        return tuple(Pin(frame, self.path, frame) for frame in range(self.frames) if frame not in again)

    @property
    def start(self) -> VideoStart:
        """The clip's own frames, with the strengths of those that are rendered again; 1 is noise alone."""
        again = set(self.again)
        stay = [frame for frame in range(self.frames) if frame not in again]
        apart = [min(abs(frame - other) for other in stay) for frame in range(self.frames)]
        at = {distance: min(self.strength, most) for distance, most in enumerate(self.ramp, 1)}
        least = min([*at.values(), self.strength])  # of the frames that stay, which are pinned
        strengths = tuple(at.get(distance, self.strength) if distance else least for distance in apart)
        return VideoStart(Source(self.path), strengths)

    def pinned(self, strength: float = STRENGTH, inversion: float = INVERSION) -> PinnedFrames:
        """`pins` for a plan, which keep their pixels."""
        return PinnedFrames(self.pins, strength, inversion, keeps_pixels=True)


def rerender(path: Path, frames: str, strength: float = 1.0) -> Rerender:
    """Examine a clip of which some frames are rendered again.

    Args:
        path: file of the clip.
        frames: such as ``8-15`` or ``3, 8-15``.
        strength: how much of them is replaced, 0 to 1.

    Raises:
        AnimateDiffError: the clip cannot be read, has not these frames, or would have no others.
    """
    if not frames.strip():
        raise ClipError(
            f"No frames of {path.name} are chosen. Set rerender_frames, such as 8-15.",
            code="AD-S30",
        )
    facts = examine(Source(path))
    again = sorted({frame for each in parse_ranges(frames) for frame in each})
    if again[-1] >= facts.frames:
        raise ClipError(
            f"There is no frame {again[-1]} in {path.name}: it has {facts.frames} frames, 0 to {facts.frames - 1}. "
            "Choose others with rerender_frames.",
            code="AD-S31",
        )
    if len(again) == facts.frames:
        raise ClipError(
            f"rerender_frames are all frames of {path.name}, so that nothing of it would stay. Leave some out, or "
            "render a new clip.",
            code="AD-S32",
        )
    if any(side % STEP for side in facts.size):
        raise ClipError(
            f"{path.name} has {facts.size[0]}x{facts.size[1]} pixels, and a clip is rendered in multiples of {STEP}. "
            "Cut or scale it first.",
            code="AD-S33",
        )
    return Rerender(path, facts.frames, facts.fps, facts.size, tuple(again), strength)


def parse_ranges(text: str) -> list[range]:
    """Frames such as ``3, 8-15``, both ends included.

    Raises:
        ClipError: a part is neither a number nor two of them.
    """
    found = []
    for part in filter(None, (each.strip() for each in text.split(","))):
        match = _RANGE.fullmatch(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first:
            raise ClipError(
                f"rerender_frames: {reprlib.repr(part)} is no range of frames. Write numbers from 0, such as 8-15 or "
                "3, 8-15.",
                code="AD-S34",
            )
        found.append(range(first, last + 1))
    return found


def check_all_frames(name: str, settings: Mapping[str, Any]) -> None:
    """Refuse a clip whose frames are not those that were rendered.

    Args:
        name: of the file.
        settings: of the clip.

    Raises:
        ClipError: it has frames in between, or also plays backward.
    """
    if settings.get("reverse") or settings.get("interpolate", _NO_INTERPOLATION) != _NO_INTERPOLATION:
        raise ClipError(
            f"{name} has frames in between or also plays backward, so that its frames are not those that were "
            "rendered. Render it without interpolation and reverse first.",
            code="AD-S35",
        )
