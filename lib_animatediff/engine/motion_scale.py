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

from .host_tensor import HostTensor, Kept

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

    def scale_factor(self, site: str, progress: float) -> float:
        """Factor on the scale of every frame at one site; ``progress`` from 0 to 1."""
        return between(self.scale_steps, progress) * self._of_blocks(site)[0]

    def effect_factor(self, site: str, progress: float) -> float:
        """Factor on the effect of every frame at one site, likewise; exactly 0 where no motion is computed."""
        if progress < self.start or (progress >= self.end and self.end < 1):
            return 0.0
        return between(self.effect_steps, progress) * self._of_blocks(site)[1]

    def _of_blocks(self, site: str) -> tuple[float, float]:
        scale = effect = 1.0
        for block in self.blocks:
            if f"{site}.".startswith(f"{block.site}."):
                scale, effect = scale * block.scale, effect * block.effect
        return scale, effect


class PlacedScale:
    """The numbers and tensors of a motion scale for the calls of one injection.

    Tensors are made once for the whole clip and copied to each device once; windows select from them there.

    Args:
        scale: the motion scale.
        frames: frames of the clip.
    """

    def __init__(self, scale: MotionScale, frames: int) -> None:
        self._scale = scale
        self._frames = frames
        self._amounts: Kept[HostTensor] = Kept()
        self._windows: Kept[HostTensor] = Kept()
        self._fitted: Kept[HostTensor] = Kept()
        self._has_effect_mask = scale.effect_mask is None or bool(scale.effect_mask.any())  # the only time it is read

    def scale_at(
        self, site: str, progress: float, window: Sequence[int], size: tuple[int, int], device: torch.device
    ) -> Multival:
        """Scale of one site's keys, a number or ``f h w``, for the frames in ``window``; ``progress`` from 0 to 1."""
        amounts, mask = self._scale.scale, self._scale.scale_mask
        factor = self._scale.scale_factor(site, progress)
        if mask is None:
            return self._of_frames(amounts, factor, window, device)
        moving = self._tensor(amounts, factor, window, device, shift=-1)
        return 1 + moving * self._mask("scale", mask, size, device)

    def effect_at(
        self, site: str, progress: float, window: Sequence[int], size: tuple[int, int], device: torch.device
    ) -> Multival:
        """Effect of one site's motion, a number or ``f h w``, likewise; exactly 0 where no motion is computed."""
        amounts, mask = self._scale.effect, self._scale.effect_mask
        factor = self._scale.effect_factor(site, progress)
        if mask is None or not _is_any(amounts, factor, window):
            return self._of_frames(amounts, factor, window, device)
        return self._tensor(amounts, factor, window, device) * self._mask("effect", mask, size, device)

    def has_effect(self, site: str, progress: float, window: Sequence[int]) -> bool:
        """Whether a site has motion in any frame of ``window`` and anywhere in the image."""
        factor = self._scale.effect_factor(site, progress)
        return self._has_effect_mask and _is_any(self._scale.effect, factor, window)

    def _of_frames(
        self, amounts: Sequence[float], factor: float, window: Sequence[int], device: torch.device
    ) -> Multival:
        values = {factor * _of_frame(amounts, frame) for frame in window}
        return values.pop() if len(values) == 1 else self._tensor(amounts, factor, window, device)

    def _tensor(
        self, amounts: Sequence[float], factor: float, window: Sequence[int], device: torch.device, shift: int = 0
    ) -> Tensor:
        """``f 1 1``: the amounts of the frames in ``window``, times a factor, plus a shift."""

        def whole() -> HostTensor:
            return HostTensor([factor * _of_frame(amounts, frame) + shift for frame in range(self._frames)])

        of_clip = self._amounts.get_or((amounts is self._scale.scale, factor, shift), whole)
        index = self._windows.get_or(tuple(window), lambda: HostTensor(tuple(window)))
        return of_clip.on(device).index_select(0, index.on(device)).view(-1, 1, 1)

    def _mask(self, name: str, mask: Tensor, size: tuple[int, int], device: torch.device) -> Tensor:
        return self._fitted.get_or((name, size), lambda: HostTensor(_resized(mask, size))).on(device)


def between(points: Points, place: float) -> float:
    """The amount at a position, by linear interpolation; constant before the first and after the last point."""
    following = bisect(points, (place, math.inf))
    if following in (0, len(points)):
        return points[min(following, len(points) - 1)][1]
    (start, low), (end, high) = points[following - 1 : following + 1]
    return low + (high - low) * (place - start) / (end - start)


def _of_frame(amounts: Sequence[float], frame: int) -> float:
    return amounts[min(frame, len(amounts) - 1)]


def _is_any(amounts: Sequence[float], factor: float, window: Sequence[int]) -> bool:
    return any(factor * _of_frame(amounts, frame) for frame in window)


def _resized(mask: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(mask[None, None].float(), size=size, mode="bilinear", antialias=True)[0, 0]
