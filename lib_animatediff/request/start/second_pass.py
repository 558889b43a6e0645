"""A second pass over a finished clip: it is enlarged and sampled once more from there, like the WebUI's hires fix."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

_SIDE_STEP = 8  # pixels of a latent's pixel


@dataclass(frozen=True)
class SecondPass:
    """How a finished clip is enlarged.

    Attributes:
        scale: factor on width and height.
        denoise: denoising strength, 0 to 1: 0 enlarges only.
    """

    least_steps: ClassVar[int] = 1  # of any strength above 0: few steps of a distilled module would have none
    begins_noised: ClassVar[bool] = False
    inversion: ClassVar[float] = 0.0

    scale: float
    denoise: float

    def size(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height of the enlarged clip, the nearest multiples of 8."""
        width, height = (max(round(side * self.scale / _SIDE_STEP), 1) * _SIDE_STEP for side in size)
        return width, height

    def note(self, size: tuple[int, int]) -> str | None:
        """A sentence about a scale that is too small to enlarge a clip of this size; None: it is enlarged."""
        if self.size(size) != size:
            return None
        return (
            f"upscale {self.scale:g} leaves the size at {size[0]}x{size[1]}, since its sides are multiples of "
            f"{_SIDE_STEP}: the clip is sampled again without being enlarged."
        )

    def strengths(self, frames: int) -> tuple[float, ...]:
        """The denoising strength of each frame."""
        return (self.denoise,) * frames

    def sampled(self, steps: int) -> int:
        """How many of the sampling steps are run: at least one, unless the clip is enlarged only."""
        return max(min(int(steps * self.denoise), steps), self.least_steps * (self.denoise > 0))

    def skipped(self, steps: int) -> int:
        """How many of the sampling steps are left out."""
        return steps - self.sampled(steps)
