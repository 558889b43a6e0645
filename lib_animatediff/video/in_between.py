"""An image between two images, by optical flow in both directions.

Each pixel of the image in between takes its colour from both images, along the flow (the backward warping of Super
SloMo, Jiang et al. 2018). Where the flow forward and the flow backward disagree, an image does not show what the other
one shows, and the other one counts, as it does where the flow leads out of an image. Where neither image is sure, the
two are blended.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from .opencv import need_opencv
from .optical_flow import between, follow, grey

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .optical_flow import Field

    Image = NDArray[np.uint8]  # h w c, whose first three channels are RGB

_SIDE = 256  # pixels of the shorter side at the flow's resolution; measured: 512 takes three times as long for 0.1 dB
_ROUNDS = 2  # of the fixed point, measured; an odd number is worse where something is hidden
_TOLERANCE = 1.0  # pixels of disagreement at which a side counts e^-1/2
_LEAST = 1e-4  # confidence in a side that is hidden, so that two hidden sides are blended
_THUMBNAIL = 32  # pixels: at this size only the layout of an image counts
_CUT = 0.25  # SSIM of two thumbnails below which they may be of two scenes
_AGREES = 0.5  # fewest pixels whose flows agree within a scene
_NEAR = 2.0  # pixels of disagreement that motion blur causes
_FAR = 16.0  # pixels at the flow's resolution; measured: DIS flow finds longer ways rarely
_FAR_SHARE = 0.01  # of an image's pixels that go so far
_MOVES = 1.0  # pixels
_LOST_SHARE = 0.3  # of the pixels that move; measured: below it the flow is right
_FEWEST_LOST = 0.001  # of an image's pixels; fewer are noise
_WINDOW = (7, 7)  # of SSIM on a thumbnail
_SSIM = ((0.01 * 255) ** 2, (0.03 * 255) ** 2)  # constants of Wang et al. 2004


class InBetween:
    """Two neighbouring images and the flow between them, which is computed once for any number of images between.

    Args:
        before, after: of one size, ``h w c``, uint8, with three channels or four; they are not changed.

    Raises:
        AnimateDiffError: OpenCV is missing.
    """

    def __init__(self, before: Image, after: Image) -> None:
        self._before, self._after = before, after
        self._small = tuple(_at_flow_size(grey(np.ascontiguousarray(image[..., :3]))) for image in (before, after))

    @cached_property
    def is_cut(self) -> bool:
        """Whether the two are of different scenes: other layouts, and no motion that leads from one to the other."""
        if _similarity(*self._small) >= _CUT:
            return False
        return bool(np.mean(self._disagreement[0] < _NEAR) < _AGREES)

    @cached_property
    def is_still(self) -> bool:
        """Whether nothing lies between the two, since they are equal or of different scenes."""
        return bool(np.array_equal(self._before, self._after)) or self.is_cut

    @cached_property
    def is_fast(self) -> bool:
        """Whether something moves so far that the flow misses it: beyond 16 pixels of 256.

        Where the flow misses it, its flow back does not return, in a larger part of what moves than motion hides.
        """
        lengths, missed = _length(self._flow[0]), self._disagreement[0] > _NEAR
        if np.mean(lengths > _FAR) > _FAR_SHARE:
            return True
        lost = np.mean(missed)
        return bool(lost > max(_FEWEST_LOST, _LOST_SHARE * np.mean((lengths > _MOVES) | missed)))

    def at(self, share: float) -> Image:
        """The image at a share of the time from ``before`` to ``after``, above 0 and below 1; at a cut, ``before``."""
        if self.is_still:
            return self._before
        cv2 = need_opencv()
        to_before = _inverted(self._flow[0], share)
        to_after = _inverted(self._flow[1], 1 - share)
        sure = (1 - share) * (follow(self._confidence[0], to_before, outside=0) + _LEAST)
        other_sure = share * (follow(self._confidence[1], to_after, outside=0) + _LEAST)
        height, width = self._before.shape[:2]
        scale = np.array((width / to_before.shape[1], height / to_before.shape[0]), np.float32)
        to_before, to_after, weight = (
            cv2.resize(each, (width, height), interpolation=cv2.INTER_LINEAR)
            for each in (to_before * scale, to_after * scale, sure / (sure + other_sure))
        )
        one, other = follow(self._before, to_before), follow(self._after, to_after)
        return _mixed(one, other, weight)

    @cached_property
    def _flow(self) -> tuple[Field, Field]:
        """From ``before`` to ``after`` and back, in pixels at the flow's resolution."""
        return between(self._small[0], self._small[1]), between(self._small[1], self._small[0])

    @cached_property
    def _confidence(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """For each pixel of both images, how sure it is that the other one shows it, 0 to 1."""
        one, other = (np.exp(-np.square(miss / _TOLERANCE) / 2) for miss in self._disagreement)
        return one, other

    @cached_property
    def _disagreement(self) -> tuple[NDArray[Any], NDArray[Any]]:
        """For each pixel of both images, how far the flow to the other image and back ends from it."""
        there, back = self._flow
        return _length(there + follow(back, there)), _length(back + follow(there, back))


def _at_flow_size(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    cv2 = need_opencv()
    height, width = image.shape
    side = min(height, width)
    if side == _SIDE:
        return image
    size = (round(width * _SIDE / side), round(height * _SIDE / side))
    how = cv2.INTER_CUBIC if side < _SIDE else cv2.INTER_AREA
    resized: NDArray[np.uint8] = cv2.resize(image, size, interpolation=how)
    return resized


def _inverted(field: Field, time: float) -> Field:
    """From a point in between back to where it was, for a flow that begins there and lasts ``time``.

    A point that began at y is at x = y + time * field(y), so y - x = -time * field(y), which is iterated.
    """
    back: Field = field * np.float32(-time)
    for _ in range(_ROUNDS):
        back = follow(field, back) * np.float32(-time)
    return back


def _length(field: Field) -> NDArray[Any]:
    length: NDArray[Any] = np.hypot(field[..., 0], field[..., 1])
    return length


def _mixed(one: Image, other: Image, weight: NDArray[Any]) -> Image:
    """Weighted mean, the weight being that of the first image."""
    share = weight[..., None].astype(np.float32)
    mixed: Image = np.rint(other + (one.astype(np.float32) - other) * share).clip(0, 255).astype(np.uint8)
    return mixed


def _similarity(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Structural similarity of two grey images as thumbnails, at most 1 (Wang et al. 2004)."""
    cv2 = need_opencv()
    x, y = (
        cv2.resize(image, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).astype(np.float32)
        for image in (one, other)
    )

    def mean(image: NDArray[Any]) -> NDArray[Any]:
        smooth: NDArray[Any] = cv2.GaussianBlur(image, _WINDOW, 1.5)
        return smooth

    mean_x, mean_y = mean(x), mean(y)
    varies_x, varies_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    together = mean(x * y) - mean_x * mean_y
    light, contrast = _SSIM
    similar = (2 * mean_x * mean_y + light) * (2 * together + contrast)
    return float(np.mean(similar / ((mean_x**2 + mean_y**2 + light) * (varies_x + varies_y + contrast))))
