"""How much motion: where in the clip, where in the picture, at which steps, in which blocks of the UNet."""

from __future__ import annotations

import math
import re
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from motion_module import ClipError
from motion_module.direction import Amount

from .frames import frame_at, is_place

MOST_SCALE, MOST_EFFECT = 10.0, 2.0
_STEP_KEY = re.compile(r"[0-9]{1,3}(?:\.[0-9]{0,9})?%")
_BLOCK = re.compile(r"(down|up)(?:\.([0-3])(?:\.([0-2]))?)?|mid")
_PATHS = {"down": "down_blocks", "mid": "mid_block", "up": "up_blocks"}

Points = tuple[tuple[float, float], ...]
"""Where and how much; between two points the amount goes evenly from one to the other."""


@dataclass(frozen=True)
class BlockAmount:
    """What is changed in some of the sites: those whose official name is ``site`` or begins with it."""

    site: str
    scale: float = 1.0
    effect: float = 1.0


@dataclass(frozen=True)
class MotionAmount:
    """Factors that are multiplied: over the clip's frames, over the picture, over the sampling steps, over the blocks.

    Attributes:
        scale: for each frame, the last one for all further frames. Softmax temperature across frames: above 1 frames
            differ more, below 1 less.
        effect: likewise. How much of the motion is added; 0 gives what the picture model makes alone.
        scale_mask, effect_mask: ``h w``, 0 to 1: where the picture moves. 0 leaves the scale as trained; where the
            effect is masked out, nothing is added.
        scale_steps, effect_steps: over the sampling, from 0.0 to 1.0.
        start, end: outside this part of the sampling there is no effect.
        blocks: of the UNet.
    """

    scale: Sequence[float] = (1.0,)
    effect: Sequence[float] = (1.0,)
    scale_mask: Tensor | None = None
    effect_mask: Tensor | None = None
    scale_steps: Points = ((0.0, 1.0),)
    effect_steps: Points = ((0.0, 1.0),)
    start: float = 0.0
    end: float = 1.0
    blocks: Sequence[BlockAmount] = ()

    @property
    def follows_steps(self) -> bool:
        """Whether it is another at other sampling steps."""
        points = {amount for steps in (self.scale_steps, self.effect_steps) for _, amount in steps}
        return points != {1.0} or self.start > 0 or self.end < 1

    def scale_at(self, site: str, progress: float, window: Sequence[int], size: tuple[int, int]) -> Amount:
        """Of one site's keys, a number or ``f h w``, for the clip's frames in ``window``; ``progress`` from 0 to 1."""
        factor = between(self.scale_steps, progress) * self._of_blocks(site)[0]
        frames = [factor * _of_frame(self.scale, frame) for frame in window]
        if self.scale_mask is None:
            return _as_amount(frames)
        return 1 + _over_picture([frame - 1 for frame in frames], self.scale_mask, size)

    def effect_at(self, site: str, progress: float, window: Sequence[int], size: tuple[int, int]) -> Amount:
        """Of one site's motion, a number or ``f h w``, likewise; exactly 0 where nothing is to be computed."""
        if progress < self.start or (progress >= self.end and self.end < 1):
            return 0.0
        factor = between(self.effect_steps, progress) * self._of_blocks(site)[1]
        frames = [factor * _of_frame(self.effect, frame) for frame in window]
        if self.effect_mask is None or not any(frames):
            return _as_amount(frames)
        return _over_picture(frames, self.effect_mask, size)

    def _of_blocks(self, site: str) -> tuple[float, float]:
        scale = effect = 1.0
        for block in self.blocks:
            if f"{site}.".startswith(f"{block.site}."):
                scale, effect = scale * block.scale, effect * block.effect
        return scale, effect


def between(points: Points, place: float) -> float:
    """The amount at a place, evenly between the points beside it; before the first and after the last it stays."""
    following = bisect(points, (place, math.inf))
    if following in (0, len(points)):
        return points[min(following, len(points) - 1)][1]
    (start, low), (end, high) = points[following - 1 : following + 1]
    return low + (high - low) * (place - start) / (end - start)


def _of_frame(amounts: Sequence[float], frame: int) -> float:
    return amounts[min(frame, len(amounts) - 1)]


def _as_amount(frames: list[float]) -> Amount:
    return frames[0] if len(set(frames)) == 1 else torch.tensor(frames).reshape(-1, 1, 1)


def _over_picture(frames: list[float], mask: Tensor, size: tuple[int, int]) -> Tensor:
    fitted = F.interpolate(mask[None, None].float(), size=size, mode="bilinear", antialias=True)[0, 0]
    return torch.tensor(frames, device=mask.device).reshape(-1, 1, 1) * fitted


# --------------------------------------------------------------------------------------------------------------------
# what people write


def parse_frames(name: str, text: str, frames: int, most: float) -> tuple[float, ...]:
    """``1.2``, ``1, 1.1, 1.3`` (the last goes on) or ``0: 1, 8: 1.5, -1: 1`` (evenly between): for each frame.

    Raises:
        ClipError: what is wrong with the piece, and what to write.
    """
    pieces = _pieces(name, text)
    if not any(":" in piece for piece in pieces):
        if len(pieces) > frames:
            raise ClipError(f"{name} has {len(pieces)} numbers for a clip of {frames} frames. Leave some out.")
        return tuple(_number(name, piece, most) for piece in pieces)
    points: dict[float, float] = {}
    for piece in pieces:
        key, colon, value = piece.partition(":")
        if not colon or not is_place(key.strip()):
            raise ClipError(f"{name} does not know {piece!r}. Write frames and numbers, such as 0: 1, 8: 1.5, -1: 1.")
        try:
            frame = frame_at(key.strip(), frames)
        except ClipError as error:
            raise ClipError(f"{name}, {piece!r:.40}: {error}") from None
        points[float(frame)] = _number(name, value, most)
    ordered = tuple(sorted(points.items()))
    return tuple(between(ordered, frame) for frame in range(frames))


def parse_steps(name: str, text: str, most: float) -> Points:
    """``0.5`` or ``0%: 1, 60%: 0.5`` (evenly between): over the sampling. Empty: 1.

    Raises:
        ClipError: what is wrong with the piece, and what to write.
    """
    if not text.strip():
        return ((0.0, 1.0),)
    points: dict[float, float] = {}
    pieces = _pieces(name, text)
    for piece in pieces:
        key, colon, value = piece.rpartition(":")
        if (colon and not _STEP_KEY.fullmatch(key.strip())) or (not colon and len(pieces) > 1):
            raise ClipError(f"{name} does not know {piece!r}. Write percents of the steps, such as 0%: 1, 60%: 0.5.")
        place = float(key.strip().removesuffix("%")) / 100 if colon else 0.0
        if place > 1:
            raise ClipError(f"{name}: {key.strip()} is beyond the last step. Use 0% to 100%.")
        points[place] = _number(name, value, most)
    return tuple(sorted(points.items()))


def parse_blocks(name: str, text: str) -> tuple[BlockAmount, ...]:
    """``up.1 effect 0.5, mid scale 1.2``: blocks (``down``, ``down.0``, ``down.0.1``, ``mid``, ``up``) and factors.

    Raises:
        ClipError: what is wrong with the piece, and what to write.
    """
    return tuple(_block(name, piece) for piece in _pieces(name, text)) if text.strip() else ()


def _block(name: str, piece: str) -> BlockAmount:
    words = piece.split()
    match = _BLOCK.fullmatch(words[0])
    if match is None or len(words) != 3 or words[1] not in ("scale", "effect"):
        raise ClipError(f"{name} does not know {piece!r}. Write blocks such as: up.1 effect 0.5, mid scale 1.2.")
    site = _PATHS[match[1] or "mid"]
    if match[2]:
        site += f".{match[2]}"
    if match[3]:
        site += f".motion_modules.{match[3]}"
    if words[1] == "scale":
        return BlockAmount(site, scale=_number(name, words[2], MOST_SCALE))
    return BlockAmount(site, effect=_number(name, words[2], MOST_EFFECT))


def _pieces(name: str, text: str) -> list[str]:
    pieces = [piece.strip() for piece in text.replace("\n", ",").split(",")]
    if not all(pieces):
        raise ClipError(f"{name} has an empty place in {text!r:.60}. Write numbers between the commas.")
    return pieces


def _number(name: str, text: str, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ClipError(f"{name} needs a number, not {text.strip()!r:.40}.") from None
    if not 0 <= number <= most:
        raise ClipError(f"{name} must be between 0 and {most:g}, not {text.strip():.40}.")
    return number
