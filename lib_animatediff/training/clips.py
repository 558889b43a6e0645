"""Clips as the trainer takes them, and the smallest source of them: tensors in memory.

A source knows how many clips there are and cuts frames out of one. Letters in shapes: n frames of a video, f frames
of a clip, c h w as usual.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from .settings import TrainingError


class BrokenClipError(TrainingError):
    """One clip cannot be read; another one takes its place."""


@dataclass(frozen=True)
class Clip:
    """One clip with its caption: as images, or as latents at the UNet's scale.

    Attributes:
        caption: what it shows.
        frames: ``f 3 h w`` in -1..1.
        mean: ``f c h w``, the latents, or the mean of their distribution where ``deviation`` is given.
        deviation: standard deviation of the latents, as ``mean``.
    """

    caption: str
    frames: Tensor | None = None
    mean: Tensor | None = None
    deviation: Tensor | None = None


@dataclass(frozen=True)
class Cut:
    """Which frames to take from a video.

    Attributes:
        frames: of the clip.
        stride: take every so many.
        position: where the clip begins within what is possible, 0..1.
        mirror: whether to swap left and right.
    """

    frames: int
    stride: int
    position: float = 0.0
    mirror: bool = False

    def indices(self, length: int) -> list[int]:
        """Frames of a video of ``length``; a short video is squeezed, so that its frames may come twice (official)."""
        span = min(length, (self.frames - 1) * self.stride + 1)
        start = min(int(self.position * (length - span + 1)), length - span)
        return [start + i * (span - 1) // max(self.frames - 1, 1) for i in range(self.frames)]


@runtime_checkable
class Source(Protocol):
    """Where clips come from."""

    def __len__(self) -> int:
        """How many clips there are."""

    def name(self, index: int) -> str:
        """What messages call a clip."""

    def read(self, index: int, cut: Cut) -> Clip:
        """Cut a clip.

        Raises:
            BrokenClipError: it cannot be read.
        """


class MemorySource:
    """Clips from tensors with captions; the iterable is read once, the tensors are not copied.

    Args:
        clips: pairs of a tensor and its caption. Pictures are ``n 3 h w``, floats in -1..1 or bytes in 0..255, sides
            multiples of 64; latents are ``n c h w`` at the UNet's scale (after the VAE's scaling factor).
        latents: whether the tensors are latents. The training then needs no VAE.

    Raises:
        TrainingError: there are no clips, or one is no such pair.
    """

    def __init__(self, clips: Iterable[tuple[Tensor, str]], *, latents: bool = False) -> None:
        self._clips = [_checked_pair(number, pair, latents) for number, pair in enumerate(clips)]
        self._latents = latents
        if not self._clips:
            raise TrainingError("There are no clips to train on.")

    def __len__(self) -> int:
        return len(self._clips)

    def name(self, index: int) -> str:
        """The clip's number: it has no other name."""
        return f"clip {index}"

    def read(self, index: int, cut: Cut) -> Clip:
        """See `Source.read`; a tensor with values that are not numbers counts as broken."""
        video, caption = self._clips[index]
        video = video[cut.indices(len(video))]
        if cut.mirror:
            video = video.flip(-1)
        if not video.is_floating_point():
            video = video.float() / 127.5 - 1
        if not bool(torch.isfinite(video).all()):
            raise BrokenClipError(f"{self.name(index)}: it holds values that are no numbers.")
        return Clip(caption, mean=video) if self._latents else Clip(caption, frames=video)


def _checked_pair(number: int, pair: tuple[Tensor, str], latents: bool) -> tuple[Tensor, str]:
    try:
        video, caption = pair
        right = isinstance(caption, str) and video.dim() == 4 and len(video) and (latents or video.shape[1] == 3)
    except (TypeError, ValueError, AttributeError):
        right = False
    if not right:
        wanted = "latents (n c h w)" if latents else "images (n 3 h w)"
        raise TrainingError(f"Clip {number} is not a pair of {wanted} and a caption.")
    return video, caption
