"""Open images from strangers: the size and the work that a file claims are checked before pixels are decoded."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from motion_module import ClipError
from motion_module.limits import IMAGE_PIXELS, JPEG_SCANS, kind_of_special_file

if TYPE_CHECKING:
    from PIL.Image import Image

# Pillow's other formats start programs, or are not images.
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "AVIF")
_WITH_SCANS = ("JPEG", "MPO")
_SCAN = b"\xff\xda"
_CHUNK = 2**20


@contextmanager
def open_image(source: Path | bytes) -> Iterator[Image]:
    """Open a file, or the bytes of one.

    Raises:
        ClipError: it claims more pixels or more work than an image needs.
        Exception: Pillow's error for what is not an image.
    """
    from PIL import Image as PillowImage

    if isinstance(source, Path) and (what := kind_of_special_file(source)):
        raise ClipError(f"{source} is {what}, not an image. Choose a file.", code="AD-V27")
    name = str(source) if isinstance(source, Path) else "The image"
    PillowImage.init()
    with (
        source.open("rb") if isinstance(source, Path) else io.BytesIO(source) as file,
        PillowImage.open(file, formats=[form for form in FORMATS if form in PillowImage.OPEN]) as image,
    ):
        check_size(name, *image.size)
        if image.format in _WITH_SCANS:
            _check_scans(name, file)
        yield image


def check_size(name: str, width: int, height: int) -> None:
    """Check the size of an image or of a video's frames.

    Raises:
        ClipError: it is beyond any real one.
    """
    if width * height > IMAGE_PIXELS:
        raise ClipError(
            f"{name} claims {width}x{height} pixels, more than {IMAGE_PIXELS // 10**6} million. Make it smaller.",
            code="AD-V28",
        )


def _check_scans(name: str, file: BinaryIO) -> None:
    """Each scan of a progressive JPEG decodes the whole image anew, and takes ten bytes."""
    place = file.tell()
    file.seek(0)
    scans, tail = 0, b""
    while chunk := file.read(_CHUNK):
        scans += (tail + chunk).count(_SCAN)
        tail = chunk[-1:]
    file.seek(place)
    if scans > JPEG_SCANS:
        raise ClipError(f"{name} is a JPEG of {scans} scans. Save it as a PNG.", code="AD-V29")
