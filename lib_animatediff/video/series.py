"""Series of images as clips: a folder, or a pattern such as ``shot_*.exr``, in the order in which people count."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import AnimateDiffError, ClipError
from motion_module.limits import PATTERN, VIDEO_FRAMES, exists, is_file, is_folder, read_limited

from .atomic import plain_reason
from .decode_video import DecodedFrame, still_frame
from .images import open_image
from .png import SIGNATURE

if TYPE_CHECKING:
    from PIL.Image import Image

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".avif", ".tif", ".tiff", ".exr")
_WILDCARDS = re.compile(r"[*?\[]")
_NUMBERS = re.compile(r"(\d+)")
_HEAD = 26
_PNG_BITS = 24  # place of the bits per channel in a PNG
_EXR = "exr_pipe"  # its files hold linear light
_OPAQUE = (255, 255)


def is_pattern(path: Path) -> bool:
    """Whether a path is a pattern of file names, such as ``frames/*.png``, and not a file of that very name."""
    return len(path.name) <= PATTERN and bool(_WILDCARDS.search(path.name)) and not exists(path)


def is_series(path: Path) -> bool:
    """Whether a path names a folder or a pattern of images."""
    return is_folder(path) or is_pattern(path)


def series_files(path: Path) -> list[Path]:
    """The images of a folder or of a pattern. Numbers in names count by their value, so that 9 comes before 10.

    Raises:
        ClipError: there are none, or too many.
    """
    found = path.parent.glob(path.name) if is_pattern(path) else path.iterdir()
    files = sorted((file for file in found if file.suffix.lower() in SUFFIXES and is_file(file)), key=_as_counted)
    if not files:
        raise ClipError(
            f"{path} contains no images. Give a folder, or a pattern such as FOLDER/*.png, of files that end in "
            f"{', '.join(SUFFIXES)}.",
            code="AD-V50",
        )
    if len(files) > VIDEO_FRAMES:
        raise ClipError(f"{path} contains more than {VIDEO_FRAMES} images. Use fewer of them.", code="AD-V51")
    return files


def series_frames(files: list[Path], fps: Fraction) -> Iterator[DecodedFrame]:
    """The frames of a series, each read when it is asked for.

    Raises:
        ClipError: while frames are read: a file is not an image, or is damaged.
    """
    for index, file in enumerate(files):
        yield DecodedFrame(index / fps, 1 / fps, read_image(file))


def read_image(path: Path) -> Image:
    """An upright image, RGB or RGBA. 16 bits are rounded to 8, and EXR's linear light becomes sRGB.

    Raises:
        ClipError: the file is not an image, or is damaged.
    """
    try:
        if deep := deep_format(path):
            return still_frame(path, deep, is_linear=deep == _EXR).image()
        with open_image(path) as image:
            return upright(image)
    except AnimateDiffError:
        raise
    except Exception as error:
        raise ClipError(
            f"{path} cannot be read as an image ({plain_reason(error)}). Replace the file, or remove it.", code="AD-V52"
        ) from error


def deep_format(path: Path) -> str | None:
    """FFmpeg's name for the format of an EXR, a TIFF or a PNG of 16 bits; None for any other file."""
    head = read_limited(path, _HEAD)
    if head.startswith(b"\x76\x2f\x31\x01"):
        return _EXR
    if head.startswith((b"II*\0", b"MM\0*")):
        return "tiff_pipe"
    if head.startswith(SIGNATURE) and head[_PNG_BITS : _PNG_BITS + 1] == b"\x10":
        return "png_pipe"
    return None


def upright(image: Image) -> Image:
    """An opened image as cameras mean it: turned by its EXIF orientation."""
    from PIL import ImageOps

    return plain(ImageOps.exif_transpose(image) or image)


def plain(image: Image) -> Image:
    """RGB, or RGBA if any pixel is transparent; the mode does not reveal that for frames stored as differences."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    converted = image.convert("RGBA")
    return converted.convert("RGB") if converted.getchannel("A").getextrema() == _OPAQUE else converted


def _as_counted(path: Path) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in _NUMBERS.split(path.name.lower()) if part]
