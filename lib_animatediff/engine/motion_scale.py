"""Scale and effect of the motion over the frames, the image, the sampling steps and the blocks of the UNet."""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from motion_module.options import Multival

Points = tuple[tuple[float, float], ...]
"""Positions with amounts. Between two points, amounts are interpolated linearly."""


@dataclass(frozen=True)
class BlockScale:
    """Factors for the sites whose official name is ``site`` or begins with it."""

    site: str
    scale: float = 1.0
    effect: float = 1.0


@dataclass(frozen=True)
class MotionScale:
    """Factors over the frames, the image, the sampling steps and the blocks, which are multiplied.

    Attributes:
        scale: one per frame; the last one applies to all further frames. Softmax temperature across frames: above 1
            frames differ more, below 1 less.
        effect: one per frame, likewise. The share of the motion that is added; 0 renders the image model's frames.
        scale_mask, effect_mask: ``h w``, 0 to 1: the moving parts of the image. Where it is 0, the scale is as trained
            and no motion is added.
        scale_steps, effect_steps: over the sampling, from 0.0 to 1.0.
        start, end: the effect is 0 outside this part of the sampling.
        blocks: factors for blocks of the UNet.
    """

    scale: Sequence[float] = (1.0,)
    effect: Sequence[float] = (1.0,)
    scale_mask: Tensor | None = None
    effect_mask: Tensor | None = None
    scale_steps: Points = ((0.0, 1.0),)
    effect_steps: Points = ((0.0, 1.0),)
    start: float = 0.0
    end: float = 1.0
    blocks: Sequence[BlockScale] = ()

    @property
    def follows_steps(self) -> bool:
        """Whether the factors differ between sampling steps."""
        points = {amount for steps in (self.scale_steps, self.effect_steps) for _, amount in steps}
        return points != {1.0} or self.start > 0 or self.end < 1

    def scale_at(self, site: str, progress: float, window: Sequence[int], size: tuple[int, int]) -> Multival:
        """Scale of one site's keys, a number or ``f h w``, for the frames in ``window``; ``progress`` from 0 to 1."""
        factor = between(self.scale_steps, progress) * self._of_blocks(site)[0]
        frames = [factor * _of_frame(self.scale, frame) for frame in window]
        if self.scale_mask is None:
            return _as_amount(frames)
        return 1 + _over_image([frame - 1 for frame in frames], self.scale_mask, size)

    def effect_at(self, site: str, progress: float, window: Sequence[int], size: tuple[int, int]) -> Multival:
        """Effect of one site's motion, a number or ``f h w``, likewise; exactly 0 where no motion is computed."""
        if progress < self.start or (progress >= self.end and self.end < 1):
            return 0.0
        factor = between(self.effect_steps, progress) * self._of_blocks(site)[1]
        frames = [factor * _of_frame(self.effect, frame) for frame in window]
        if self.effect_mask is None or not any(frames):
            return _as_amount(frames)
        return _over_image(frames, self.effect_mask, size)

    def _of_blocks(self, site: str) -> tuple[float, float]:
        scale = effect = 1.0
        for block in self.blocks:
            if f"{site}.".startswith(f"{block.site}."):
                scale, effect = scale * block.scale, effect * block.effect
        return scale, effect


def between(points: Points, place: float) -> float:
    """The amount at a position, by linear interpolation; constant before the first and after the last point."""
    following = bisect(points, (place, math.inf))
    if following in (0, len(points)):
        return points[min(following, len(points) - 1)][1]
    (start, low), (end, high) = points[following - 1 : following + 1]
    return low + (high - low) * (place - start) / (end - start)


def _of_frame(amounts: Sequence[float], frame: int) -> float:
    return amounts[min(frame, len(amounts) - 1)]


def _as_amount(frames: list[float]) -> Multival:
    return frames[0] if len(set(frames)) == 1 else torch.tensor(frames).reshape(-1, 1, 1)


def _over_image(frames: list[float], mask: Tensor, size: tuple[int, int]) -> Tensor:
    fitted = F.interpolate(mask[None, None].float(), size=size, mode="bilinear", antialias=True)[0, 0]
    return torch.tensor(frames, device=mask.device).reshape(-1, 1, 1) * fitted
