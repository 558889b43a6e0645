"""Colours of a clip's frames, moved towards those of its key images.

Users see frames with a key image of SparseCtrl darker, or with another contrast, than the frames beside them, so that a
clip flashes. Mean and deviation of each channel of a frame become those of the key images, linearly between two of
them, as AnimateLCM-I2V moves a finished clip towards its image.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib_animatediff.request.start.pins import Pin
from lib_animatediff.video.fitting import CROP
from lib_animatediff.video.palette import raw_bytes
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.source import over_white, source_frames

from .unit import ControlUnit

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_animatediff.request.plan import ClipPlan

_WHITE = 255
_MOST_CONTRAST = 2.0  # times the own one, so that a plain frame does not become noise
_EVEN = 1e-3  # levels of deviation


def colour_match(plan: ClipPlan) -> ColourMatch | None:
    """What matches the colours of a plan's frames; None: nothing does."""
    matching = [unit for unit in plan.controls if isinstance(unit, ControlUnit) and unit.colour_match and unit.keys]
    if not matching:
        return None
    keys = {key.frame: key for unit in matching for key in unit.keys}
    return ColourMatch([keys[frame] for frame in sorted(keys)], max(unit.colour_match for unit in matching))


class ColourMatch:
    """Moves the colours of finished frames towards those of images.

    Args:
        keys: images at frames, ascending.
        share: of the way, from 0 to 1.
    """

    def __init__(self, keys: Sequence[Pin], share: float) -> None:
        self._keys = keys
        self._share = share
        self._wanted: dict[tuple[int, tuple[int, int]], tuple[Tensor, Tensor]] = {}

    def matched(self, image: Image, frame: int) -> Image:
        """A finished frame, of any size, with colours that are nearer to those of the images.

        Raises:
            AnimateDiffError: an image cannot be read.
        """
        from PIL import Image as PillowImage

        levels = levels_of(image.convert("RGB")).float()
        mean, deviation = _statistics(levels)
        wanted_mean, wanted_deviation = self._wanted_at(frame, image.size)
        contrast = torch.where(deviation > _EVEN, wanted_deviation / deviation.clamp(min=_EVEN), 1.0)
        full = (levels - mean) * contrast.clamp(max=_MOST_CONTRAST) + wanted_mean
        mixed = torch.lerp(levels, full, self._share).round().clamp(0, _WHITE).to(torch.uint8)
        return PillowImage.frombytes("RGB", image.size, raw_bytes(mixed))

    def _wanted_at(self, frame: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Mean and deviation of each channel at a frame."""
        frames = [key.frame for key in self._keys]
        after = bisect_right(frames, frame)
        if after in (0, len(frames)):
            return self._of_image(max(after - 1, 0), size)
        before, next_one = self._of_image(after - 1, size), self._of_image(after, size)
        share = (frame - frames[after - 1]) / (frames[after] - frames[after - 1])
        mean, deviation = (torch.lerp(one, other, share) for one, other in zip(before, next_one, strict=True))
        return mean, deviation

    def _of_image(self, number: int, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        if (number, size) not in self._wanted:
            (image,) = source_frames(self._keys[number].source(CROP), size, 1)
            self._wanted[number, size] = _statistics(levels_of(over_white(image)).float())
        return self._wanted[number, size]


def _statistics(levels: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation of each channel of ``h w c``."""
    pixels = levels.flatten(0, 1)
    return pixels.mean(0), pixels.std(0, unbiased=False)
