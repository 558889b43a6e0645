"""A picture that says where there is motion, small enough to travel in a clip's text."""

from __future__ import annotations

import base64
import binascii
import io
import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from motion_module import ClipError

if TYPE_CHECKING:
    import PIL.Image

LONGEST_SIDE = 128  # pixels: as fine as the latents of a picture of 1024
_MOST_PIXELS = 2**26
_FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")  # Pillow's others run programs, or are no pictures
_DATA_URI = re.compile(r"^data:image/[\w.+-]+;base64,")


def packed_mask(text: str) -> str:
    """A picture of any kind, as base64 or data URI, as a small grey PNG in base64; empty stays empty.

    Raises:
        ClipError: it is no picture.
    """
    if not text.strip():
        return ""
    picture = _opened(text)
    is_plain = picture.mode == "L" and picture.format == "PNG" and "transparency" not in picture.info
    return _bare(text) if is_plain and max(picture.size) <= LONGEST_SIDE else pack_mask(picture)


def pack_mask(picture: PIL.Image.Image) -> str:
    """A picture as such a text. What is transparent is black."""
    import PIL.Image

    if picture.mode.startswith("I"):  # 16 bits, of which Pillow would take the lower 8
        picture = picture.convert("I").point(lambda level: level / 257).convert("L")
    if "A" in picture.getbands() or "transparency" in picture.info:
        black = PIL.Image.new("RGBA", picture.size, (0, 0, 0, 255))
        picture = PIL.Image.alpha_composite(black, picture.convert("RGBA"))
    grey = picture.convert("L")
    grey.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    written = io.BytesIO()
    grey.save(written, "PNG", optimize=True)
    return base64.b64encode(written.getvalue()).decode("ascii")


def unpacked_mask(text: str) -> Tensor:
    """What `packed_mask` gave, as ``h w``, 0 (black) to 1.

    Raises:
        ClipError: it is no picture.
    """
    picture = _opened(text).convert("L")
    values = torch.frombuffer(bytearray(picture.tobytes()), dtype=torch.uint8)
    return values.reshape(picture.height, picture.width) / 255


def _bare(text: str) -> str:
    return _DATA_URI.sub("", "".join(text.split()))


def _opened(text: str) -> PIL.Image.Image:
    import PIL.Image

    try:
        data = base64.b64decode(_bare(text), validate=True)
        picture = PIL.Image.open(io.BytesIO(data), formats=_FORMATS)
        if picture.width * picture.height > _MOST_PIXELS:
            raise ClipError(f"The motion mask has {picture.width}x{picture.height} pixels. Make it smaller.")
        picture.load()
    except (binascii.Error, OSError, ValueError, SyntaxError, PIL.Image.DecompressionBombError) as error:
        raise ClipError("The motion mask is no picture. Send a PNG or JPEG as base64.") from error
    return picture
