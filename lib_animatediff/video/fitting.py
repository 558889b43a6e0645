"""Fit images of any size into the size of a clip."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from motion_module import ClipError
from motion_module.limits import IMAGE_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

Size = tuple[int, int]

STEP = 8  # pixels per latent
CROP, PAD, SCALE = "crop", "pad", "scale"
_ROUNDINGS: dict[str, Callable[[int], int]] = {  # a side to a multiple of `STEP`
    CROP: lambda side: side // STEP,
    PAD: lambda side: -(-side // STEP),
    SCALE: lambda side: (side + STEP // 2) // STEP,
}
FITS = tuple(_ROUNDINGS)


def inherited_size(source: Size, how: str, *, width: int | None = None, height: int | None = None) -> Size:
    """Width and height of a clip that takes them over from its source, in multiples of 8 pixels.

    Args:
        source: width and height of the source.
        how: one of `FITS`: crop rounds down, pad up, scale to the nearest multiple.
        width, height: given sides; if one is missing, it follows from the shape of the source.
    """
    if width is None and height is not None:
        width = _rounded(source[0] * height / source[1], how)
    elif height is None and width is not None:
        height = _rounded(source[1] * width / source[0], how)
    return (
        _rounded(source[0], how) if width is None else width,
        _rounded(source[1], how) if height is None else height,
    )


def fitted(image: Image, size: Size, how: str, *, smooth: bool = False) -> Image:
    """An image in another size: cropped at the centre, padded with black (transparent if it has alpha), or stretched.

    Args:
        smooth: without the overshoot of a sharp resampling, which would turn black beside white into grey.

    Raises:
        ClipError: the image is so long and narrow that it would become enormous.
    """
    from PIL import Image as PillowImage

    if image.size == size:
        return image
    resampling = PillowImage.Resampling.BILINEAR if smooth else PillowImage.Resampling.LANCZOS
    if how == SCALE:
        return image.resize(size, resampling)
    scaled = _scaled(image, size, how, resampling)
    left, top = ((wanted - side) // 2 for wanted, side in zip(size, scaled.size, strict=True))
    if how == CROP:
        return scaled.crop((-left, -top, size[0] - left, size[1] - top))
    padded = PillowImage.new(image.mode, size)
    padded.paste(scaled, (left, top))
    return padded


def _scaled(image: Image, size: Size, how: str, resampling: Any) -> Image:
    """The image in its own shape: it covers the size for a crop, and lies within it for a padding."""
    spare = [(side - wanted) * (1 if how == CROP else -1) for side, wanted in zip(image.size, size, strict=True)]
    if all(0 <= pixels < STEP for pixels in spare):  # no reason to resample every pixel
        return image
    ratios = [wanted / side for wanted, side in zip(size, image.size, strict=True)]
    factor = max(ratios) if how == CROP else min(ratios)
    width, height = (max(round(side * factor), 1) for side in image.size)
    if width * height > IMAGE_PIXELS:
        raise ClipError(
            f"An image of {image.width}x{image.height} pixels is too long and narrow for {size[0]}x{size[1]}. Choose "
            "another fit, or crop it first.",
            code="AD-V53",
        )
    return image.resize((width, height), resampling)


def _rounded(side: float, how: str) -> int:
    return max(_ROUNDINGS[how](round(side)), 1) * STEP
