"""The recipe that a file carries, ours or another program's."""

from __future__ import annotations

from pathlib import Path

from motion_module import AnimateDiffError, ClipError

from .atomic import plain_reason
from .avif import need_avif
from .exif import read_exif
from .gif import gif_texts
from .png import SIGNATURE, png_block
from .pyav import media_texts
from .recipe import Recipe, recipe_from
from .webp import webp_exif

_HEAD = 16
_TEXT_SUFFIX = ".txt"
_LONGEST_TEXT = 16 * 2**20  # bytes
_AVIF_BRANDS = (b"avif", b"avis")


def read_recipe(path: Path) -> Recipe:
    """What made a clip or an image, whoever wrote it; an empty recipe where the file does not say.

    Args:
        path: GIF, WebP, PNG, JPEG, AVIF, TXT, any video file, or a folder of PNG frames.

    Raises:
        ClipError: there is no such file, or it is none of these.
        AnimateDiffError: a library that reads it is missing.
    """
    try:
        return _read(first_frame(path) if path.is_dir() else path)
    except AnimateDiffError:
        raise
    except FileNotFoundError as error:
        raise ClipError(f"There is no such file: {path}.") from error
    except Exception as error:  # decoders raise all sorts
        raise ClipError(f"{path} is no clip or image that can be read ({plain_reason(error)}).") from error


def first_frame(folder: Path) -> Path:
    """The first of a folder's frames.

    Raises:
        ClipError: it holds none.
    """
    frames = frame_files(folder)
    if not frames:
        raise ClipError(f"The folder {folder} holds no PNG frames.")
    return frames[0]


def frame_files(folder: Path) -> list[Path]:
    """The frames in a folder, in order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")


def kind_of(path: Path) -> str:
    """What a file is by its first bytes: gif, png, webp, avif, jpeg, or else video."""
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if head.startswith(b"GIF8"):
        return "gif"
    if head.startswith(SIGNATURE):
        return "png"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head[4:8] == b"ftyp" and head[8:12] in _AVIF_BRANDS:
        return "avif"
    return "jpeg" if head.startswith(b"\xff\xd8\xff") else "video"


def _read(path: Path) -> Recipe:
    kind = kind_of(path)
    if kind == "gif":
        return recipe_from(*gif_texts(path))
    if kind == "png":
        return recipe_from(_png_text(path), png_block(path))
    if kind == "webp":
        return recipe_from(*read_exif(webp_exif(path)))
    if kind in ("avif", "jpeg"):
        return recipe_from(*read_exif(_pillows_exif(path, kind)))
    if path.suffix.lower() == _TEXT_SUFFIX:
        return Recipe(path.read_bytes()[:_LONGEST_TEXT].decode(errors="replace").removesuffix("\n"))
    return recipe_from(*media_texts(path))


def _png_text(path: Path) -> str:
    from PIL import Image

    with Image.open(path) as image:
        return str(image.info.get("parameters", ""))


def _pillows_exif(path: Path, kind: str) -> bytes:
    from PIL import Image

    if kind == "avif":
        need_avif()
    with Image.open(path) as image:
        return bytes(image.info.get("exif", b""))
