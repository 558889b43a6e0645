"""Optical flow of a clip in both directions, by OpenCV's DIS, without weights.

Clips are first resized to a common size, so that thresholds apply to clips of 64 and of 1024 pixels alike, and the
search's smallest patches fit into small images.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from lib_animatediff.video.opencv import need_opencv
from lib_animatediff.video.optical_flow import between, grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lib_animatediff.video.optical_flow import Field

    Frames = NDArray[np.uint8]  # f h w 3, RGB

SIDE = 256  # pixels of the shorter side at the flow's resolution
_REACH = 17  # pixels: DIS compares patches of 8 at half the resolution
_LEVELS = 5  # change of luma that exceeds compression noise


@dataclass(frozen=True)
class Flow:
    """Flow between consecutive frames, 0 where the image does not change.

    Attributes:
        frames: the clip at the flow's resolution, f h w 3.
        forward: flow from each frame to the next, f-1 fields.
        backward: flow from each next frame back.
        scale: pixels at the flow's resolution per pixel of the clip.
    """

    frames: Frames
    forward: tuple[Field, ...]
    backward: tuple[Field, ...]
    scale: float


def flow_of(frames: Frames) -> Flow:
    """Flow of a clip, ``f h w 3``, in both directions.

    Raises:
        AnimateDiffError: OpenCV is missing.
    """
    resized, scale = _resized(frames)
    pairs = list(pairwise([grey(frame) for frame in resized]))
    changed = [_changed(one, other)[..., None] for one, other in pairs]
    return Flow(
        resized,
        tuple(between(one, other) * mask for (one, other), mask in zip(pairs, changed, strict=True)),
        tuple(between(other, one) * mask for (one, other), mask in zip(pairs, changed, strict=True)),
        scale,
    )


def _changed(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 within a patch's reach of a change: on plain surfaces noise alone would give arbitrary flow."""
    cv2 = need_opencv()
    changes = (cv2.absdiff(one, other) > _LEVELS).astype(np.uint8)
    changed: NDArray[np.uint8] = cv2.dilate(changes, np.ones((_REACH, _REACH), np.uint8))
    return changed


def _resized(frames: Frames) -> tuple[Frames, float]:
    cv2 = need_opencv()
    scale = SIDE / min(frames.shape[1:3])
    size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames]), scale
