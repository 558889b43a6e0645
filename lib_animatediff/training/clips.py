"""Training clips, and the simplest source of them: tensors in memory.

A source knows its number of clips and cuts frames from them. Letters in shapes: n frames of a video, f frames of a
clip, c h w as usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from motion_module.camera_ctrl.poses import CameraPose, for_frames

from .settings import TrainingError

PIXELS_PER_LATENT = 8  # on each side

Poses: TypeAlias = Sequence[CameraPose]
MemoryClip: TypeAlias = (
    tuple[Tensor, str] | tuple[Tensor, str, Tensor | None] | tuple[Tensor, str, Tensor | None, Poses | None]
)


class BrokenClipError(TrainingError):
    """A clip cannot be read; the training replaces it with another one."""


@dataclass(frozen=True)
class Clip:
    """One clip with its caption, as images or as latents at the UNet's scale.

    Attributes:
        caption: text that describes it.
        frames: ``f 3 h w`` in -1..1.
        mean: latents, or the mean of their distribution if ``deviation`` is given, ``f c h w``.
        deviation: standard deviation of the latents, ``f c h w``.
        hints: what a ControlNet reads of each frame, ``f 3 H W`` from 0 to 1.
        poses: where the camera is in each frame.
    """

    caption: str
    frames: Tensor | None = None
    mean: Tensor | None = None
    deviation: Tensor | None = None
    hints: Tensor | None = None
    poses: Poses | None = None


@dataclass(frozen=True)
class Cut:
    """Selection of frames from a video.

    Attributes:
        frames: number of frames of the clip.
        stride: distance between two frames in the video.
        position: start of the clip within the possible range, 0..1.
        mirror: whether to flip horizontally.
    """

    frames: int
    stride: int
    position: float = 0.0
    mirror: bool = False

    def indices(self, length: int) -> list[int]:
        """Frame indices in a video of ``length``. If it is too short, frames repeat (as in the official code)."""
        span = min(length, (self.frames - 1) * self.stride + 1)
        start = min(int(self.position * (length - span + 1)), length - span)
        return [start + i * (span - 1) // max(self.frames - 1, 1) for i in range(self.frames)]

    def poses(self, poses: Poses, length: int) -> Poses:
        """The cameras of the clip, from those of a video of ``length`` frames; after the last one it stays."""
        given = for_frames(poses, length)
        selected = [given[index] for index in self.indices(length)]
        return [pose.mirrored for pose in selected] if self.mirror else selected


@runtime_checkable
class Source(Protocol):
    """A collection of clips."""

    def __len__(self) -> int:
        """Number of clips."""

    def name(self, index: int) -> str:
        """Name of a clip in messages."""

    def read(self, index: int, cut: Cut) -> Clip:
        """Cut a clip.

        Raises:
            BrokenClipError: it cannot be read.
        """


class MemorySource:
    """Clips in memory. The iterable is consumed once; the tensors are not copied.

    Args:
        clips: pairs of a tensor and its caption. Images are ``n 3 h w``, floats in -1..1 or uint8, with sides that are
            multiples of 64; latents are ``n c h w`` at the UNet's scale (after the VAE's scaling factor). To train a
            ControlNet, a third tensor may hold hints, ``n 3 H W``, floats in 0..1 or uint8, of the images' size. To
            train a CameraCtrl model, a fourth part, after hints or None, is a `CameraPose` for each frame.
        latents: whether the tensors are latents, so that the training needs no VAE.

    Raises:
        TrainingError: there are no clips, or one is invalid.
    """

    def __init__(self, clips: Iterable[MemoryClip], *, latents: bool = False) -> None:
        self._clips = [_checked(number, clip, latents) for number, clip in enumerate(clips)]
        self._latents = latents
        if not self._clips:
            raise TrainingError("There are no clips to train on. Pass at least one.", code="AD-T04")

    def __len__(self) -> int:
        return len(self._clips)

    def name(self, index: int) -> str:
        """The clip's index, as it has no other name."""
        return f"clip {index}"

    def read(self, index: int, cut: Cut) -> Clip:
        """See `Source.read`. A tensor with infinite or NaN values counts as broken."""
        video, caption, hints, poses = self._clips[index]
        selected = cut.indices(len(video))
        seen = None if poses is None else cut.poses(poses, len(video))
        video, hints = (_cut(tensor, selected, cut.mirror) for tensor in (video, hints))
        if hints is not None and not hints.is_floating_point():
            hints = hints.float() / 255
        if not video.is_floating_point():
            video = video.float() / 127.5 - 1
        if not bool(torch.isfinite(video).all()):
            raise BrokenClipError(f"{self.name(index)} contains values that are not finite.", code="AD-T05")
        given = {"mean" if self._latents else "frames": video}
        return Clip(caption, **given, hints=hints, poses=seen)


def _cut(tensor: Any, selected: list[int], mirror: bool) -> Any:
    if tensor is None:
        return None
    return tensor[selected].flip(-1) if mirror else tensor[selected]


def _checked(number: int, clip: MemoryClip, latents: bool) -> tuple[Tensor, str, Tensor | None, Poses | None]:
    try:
        video, caption, hints, poses = (*clip, None, None)[:4]
        right = isinstance(caption, str) and video.dim() == 4 and len(video) and (latents or video.shape[1] == 3)
        if hints is not None:
            side = PIXELS_PER_LATENT if latents else 1
            right = right and hints.shape == (len(video), 3, *(side * length for length in video.shape[2:]))
        if poses is not None:
            right = right and len(poses) == len(video) and all(isinstance(pose, CameraPose) for pose in poses)
    except (TypeError, ValueError, AttributeError):
        right = False
    if not right:
        expected = "latents (n c h w)" if latents else "images (n 3 h w)"
        raise TrainingError(
            f"Clip {number} must be a pair of {expected} and a caption, or with hints of the images' size and a camera "
            "for each frame.",
            code="AD-T06",
        )
    return video, caption, hints, poses
