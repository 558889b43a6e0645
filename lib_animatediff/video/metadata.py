"""Read the recipe embedded in a file, whether we wrote it or another program did."""

from __future__ import annotations

from pathlib import Path

from motion_module import AnimateDiffError, ClipError
from motion_module.limits import is_folder, read_limited

from .atomic import plain_reason
from .avif import need_avif
from .exif import read_exif
from .gif import gif_texts
from .images import open_image
from .png import SIGNATURE, png_block
from .pyav import media_texts
from .recipe import Recipe, recipe_from
from .webp import webp_exif

_HEAD = 16
_TEXT_SUFFIX = ".txt"
_AVIF_BRANDS = (b"avif", b"avis")


def read_recipe(path: Path) -> Recipe:
    """The recipe of a clip or an image; empty if the file has none.

    Args:
        path: GIF, WebP, PNG, JPEG, AVIF, TXT, any video file, or a folder of PNG frames.

    Raises:
        ClipError: the file is missing or is none of these.
        AnimateDiffError: a library for the format is missing.
    """
    try:
        return _read(first_frame(path) if is_folder(path) else path)
    except AnimateDiffError:
        raise
    except FileNotFoundError as error:
        raise ClipError(f"There is no file {path}. Check the path.", code="AD-V10") from error
    except Exception as error:  # decoders raise all sorts
        raise ClipError(
            f"{path} cannot be read as a clip or an image ({plain_reason(error)}). Choose another file.", code="AD-V11"
        ) from error


def first_frame(folder: Path) -> Path:
    """The first frame file of a folder.

    Raises:
        ClipError: the folder has none.
    """
    frames = frame_files(folder)
    if not frames:
        raise ClipError(f"The folder {folder} contains no PNG frames. Choose another folder.", code="AD-V12")
    return frames[0]


def frame_files(folder: Path) -> list[Path]:
    """The frame files of a folder, in order."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".png")


def kind_of(path: Path) -> str:
    """File type by the first bytes: gif, png, webp, avif, jpeg, otherwise video."""
    head = read_limited(path, _HEAD)
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
        return Recipe(read_limited(path).decode(errors="replace").removesuffix("\n"))
    return recipe_from(*media_texts(path))


def _png_text(path: Path) -> str:
    with open_image(path) as image:
        return str(image.info.get("parameters", ""))


def _pillows_exif(path: Path, kind: str) -> bytes:
    if kind == "avif":
        need_avif()
    with open_image(path) as image:
        return bytes(image.info.get("exif", b""))
