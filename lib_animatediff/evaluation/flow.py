"""Optical flow of a clip, without any weights: OpenCV's DIS, in both directions.

Every clip is brought to one size first, so that thresholds mean the same for a clip of 64 pixels and for one of 1024,
and so that the smallest patches of the search still fit into what a small image shows.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import EvaluationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Frames = NDArray[np.uint8]  # f h w 3, RGB
    Field = NDArray[np.floating[Any]]  # h w 2, in pixels of the flow's size: x, then y

SIDE = 256  # pixels of the shorter side at which flow is searched for
_REACH = 17  # pixels: DIS compares patches of 8 at half the size, so what is farther away has no say
_LEVELS = 5  # a change of luma that is more than a decoder's grain


@dataclass(frozen=True)
class Flow:
    """Flow between neighbouring frames; 0 where nothing changes that it could be told by.

    Attributes:
        frames: the clip at the size of the flow, f h w 3.
        forward: from each frame to the next, f-1 of them.
        backward: from each next frame back.
        scale: pixels of the flow's size per pixel of the clip.
    """

    frames: Frames
    forward: tuple[Field, ...]
    backward: tuple[Field, ...]
    scale: float


def flow_of(frames: Frames) -> Flow:
    """Both flows of a clip, ``f h w 3``.

    Raises:
        EvaluationError: OpenCV is missing.
    """
    resized, scale = _resized(frames)
    pairs = list(pairwise(grey(resized)))
    stirs = [_stirs(one, other)[..., None] for one, other in pairs]
    return Flow(
        resized,
        tuple(between(one, other) * stir for (one, other), stir in zip(pairs, stirs, strict=True)),
        tuple(between(other, one) * stir for (one, other), stir in zip(pairs, stirs, strict=True)),
        scale,
    )


def _stirs(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """1 where something changes within the reach of a patch: on plain ground, grain alone gives any flow."""
    cv2 = opencv()
    changes = (cv2.absdiff(one, other) > _LEVELS).astype(np.uint8)
    stirs: NDArray[np.uint8] = cv2.dilate(changes, np.ones((_REACH, _REACH), np.uint8))
    return stirs


def between(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Field:
    """Where each pixel of one grey image is in another one."""
    cv2 = opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: Field = search.calc(one, other, None)
    return found


def grey(frames: Frames) -> list[NDArray[np.uint8]]:
    """Luma of each frame, h w."""
    cv2 = opencv()
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in frames]


def follow(image: NDArray[Any], field: Field) -> NDArray[Any]:
    """What an image, h w or h w c, shows where a field leads to: ``image(x + field(x))``, linear in between."""
    cv2 = opencv()
    height, width = field.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    there: NDArray[Any] = cv2.remap(
        image, x + field[..., 0], y + field[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
    )
    return there


def opencv() -> Any:
    """OpenCV's module.

    Raises:
        EvaluationError: it is missing.
    """
    try:
        import cv2
    except ImportError as error:
        raise EvaluationError("Optical flow needs OpenCV. Install it: pip install opencv-python-headless") from error
    return cv2


def _resized(frames: Frames) -> tuple[Frames, float]:
    cv2 = opencv()
    scale = SIDE / min(frames.shape[1:3])
    size = (round(frames.shape[2] * scale), round(frames.shape[1] * scale))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.stack([cv2.resize(frame, size, interpolation=how) for frame in frames]), scale
