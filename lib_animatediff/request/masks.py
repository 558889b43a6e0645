"""The motion mask as text: an image small enough for a clip's infotext."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import TYPE_CHECKING

from torch import Tensor

from lib_animatediff.video.images import open_image
from lib_animatediff.video.pixels import levels_of
from motion_module import ClipError

if TYPE_CHECKING:
    import PIL.Image

LONGEST_SIDE = 128  # pixels: the resolution of the latents of an image of 1024 pixels
_DATA_URI = re.compile(r"^data:image/[\w.+-]+;base64,")


def packed_mask(text: str) -> str:
    """Convert an image in base64 or a data URI to a small grey PNG in base64; an empty string stays empty.

    Raises:
        ClipError: the text is not an image.
    """
    if not text.strip():
        return ""
    image = _opened(text)
    is_plain = image.mode == "L" and image.format == "PNG" and "transparency" not in image.info
    return _bare(text) if is_plain and max(image.size) <= LONGEST_SIDE else pack_mask(image)


def pack_mask(image: PIL.Image.Image) -> str:
    """Convert an image to a small grey PNG in base64. Transparent areas become black."""
    import PIL.Image

    if image.mode.startswith("I"):  # 16 bits; Pillow would keep the lower 8
        image = image.convert("I").point(lambda level: level / 257).convert("L")
    if "A" in image.getbands() or "transparency" in image.info:
        black = PIL.Image.new("RGBA", image.size, (0, 0, 0, 255))
        image = PIL.Image.alpha_composite(black, image.convert("RGBA"))
    grey = image.convert("L")
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    written = io.BytesIO()
    grey.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")


def unpacked_mask(text: str) -> Tensor:
    """The mask of `packed_mask` as a tensor, ``h w``, from 0 (black) to 1 (white).

    Raises:
        ClipError: the text is not an image.
    """
    return levels_of(_opened(text).convert("L"))[..., 0] / 255


def _bare(text: str) -> str:
    return _DATA_URI.sub("", "".join(text.split()))


def _opened(text: str) -> PIL.Image.Image:
    import PIL.Image

    try:
        data = base64.b64decode(_bare(text), validate=True)
        with open_image(data) as image:
            image.load()
            return image
    except ClipError as error:
        raise ClipError(f"The motion mask cannot be used. {error.message}", code="AD-C30") from error
    except (binascii.Error, OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ClipError("The motion mask is not an image. Send a PNG or JPEG as base64.", code="AD-C31") from error
