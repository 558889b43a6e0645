"""A clip that starts from the frames of a video instead of noise alone (video to video)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.video.source import Source
from motion_module import ClipError

DENOISE = 0.6


@dataclass(frozen=True)
class VideoStart:
    """The frames that a clip starts from, and how much of them is replaced.

    Attributes:
        source: frame i of the clip starts from its frame i.
        denoise: denoising strength, 0 to 1: 0 keeps the frames, 1 is a clip from the prompt alone.

    Raises:
        ClipError: the strength is out of range.
    """

    source: Source
    denoise: float = DENOISE

    def __post_init__(self) -> None:
        if not math.isfinite(self.denoise) or not 0 <= self.denoise <= 1:
            raise ClipError(f"denoise must be between 0 and 1, not {self.denoise}.", code="AD-C50")

    @property
    def is_used(self) -> bool:
        """Whether anything of the video is left."""
        return self.denoise < 1

    def skipped(self, steps: int) -> int:
        """How many of the sampling steps are left out, as diffusers' image to image counts them."""
        return steps - min(int(steps * self.denoise), steps)

    def to_json(self) -> dict[str, Any]:
        """Itself as JSON values, with the path as text."""
        return {**asdict(self.source), "path": str(self.source.path), "denoise": self.denoise}


def video_start_from_json(data: Mapping[str, Any], path: Path) -> VideoStart:
    """The start that `VideoStart.to_json` wrote, with the file at ``path``; the values may come from anyone.

    Raises:
        ClipError: a value is missing, or has the wrong type or range.
    """

    def number(name: str, kinds: tuple[type, ...]) -> Any:
        value = data.get(name)
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise ClipError(
                f"The source video's {name} is damaged: {value!r:.40}. Use the original file of the clip.",
                code="AD-C51",
            )
        return value

    return VideoStart(
        Source(
            path,
            start=number("start", (int,)),
            end=number("end", (int, type(None))),
            every=number("every", (int,)),
            fps=number("fps", (int, float, type(None))),
            fit=number("fit", (str,)),
        ),
        float(number("denoise", (int, float))),
    )
