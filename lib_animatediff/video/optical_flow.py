"""Dense optical flow by OpenCV's DIS (Kroeger et al. 2016), which needs no weights. OpenCV is an optional library."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from .opencv import need_opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Field = NDArray[np.floating[Any]]  # h w 2, x and y in pixels


def between(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> Field:
    """Flow from one grey image, ``h w``, to another: pixel x of the first is at ``x + field(x)`` in the other."""
    cv2 = need_opencv()
    search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    found: Field = search.calc(one, other, None)
    return found


def grey(frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Luma, ``h w``, of an RGB image."""
    cv2 = need_opencv()
    luma: NDArray[np.uint8] = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    return luma


def follow(image: NDArray[Any], field: Field, outside: float | None = None) -> NDArray[Any]:
    """Sample an image, ``h w`` or ``h w c``, at ``x + field(x)`` with linear interpolation.

    Args:
        outside: value beyond the image; None: that of its border.
    """
    cv2 = need_opencv()
    x, y = _places(*field.shape[:2])
    there: NDArray[Any] = cv2.remap(
        image,
        x + field[..., 0],
        y + field[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT,
        borderValue=outside or 0,
    )
    return there


@lru_cache(maxsize=2)  # at the flow's resolution and at the images'
def _places(height: int, width: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Column and row of each pixel."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    return x, y
