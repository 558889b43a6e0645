"""Preprocessors of control models that need no download: what a ControlNet or a T2I adapter reads of an image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from .opencv import need_opencv

if TYPE_CHECKING:
    from PIL.Image import Image

NONE, CANNY = "none", "canny"
_CANNY_LOW, _CANNY_HIGH = 100, 200  # of the gradient; ControlNet's own demonstration of its model for edges
_TILE = 4  # pixels: finer detail is left to the clip


def canny(image: Image) -> Image:
    """White edges on black.

    Raises:
        AnimateDiffError: OpenCV is not installed.
    """
    import numpy as np
    from PIL import Image as PillowImage

    edges = need_opencv("The preprocessor canny").Canny(np.asarray(image), _CANNY_LOW, _CANNY_HIGH)
    return PillowImage.fromarray(edges).convert("RGB")


def invert(image: Image) -> Image:
    """White lines on black from black lines on white."""
    from PIL import ImageOps

    return ImageOps.invert(image)


def tile(image: Image) -> Image:
    """The image without its finest detail, for a tile model."""
    from PIL import Image as PillowImage

    small = [max(side // _TILE, 1) for side in image.size]
    reduced = image.resize((small[0], small[1]), PillowImage.Resampling.BOX)
    return reduced.resize(image.size, PillowImage.Resampling.BICUBIC)


PREPROCESSORS: dict[str, Callable[[Image], Image]] = {
    NONE: lambda image: image,
    CANNY: canny,
    "invert": invert,
    "tile": tile,
}
"""Each makes an image of an RGB image, in the same size."""


def check_preprocessor(name: str) -> None:
    """Check that what a preprocessor needs is installed.

    Raises:
        AnimateDiffError: it is not.
    """
    if name == CANNY:
        need_opencv("The preprocessor canny")
