"""The output formats, one row each. To add a format, write its encoder and add a row."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from motion_module import ClipError

from .avif import write_avif
from .encode_video import write_mp4, write_webm
from .encoding import EncoderInput, Encoding
from .gif import write_gif_file
from .png import write_apng, write_frames
from .webp import write_webp


@dataclass(frozen=True)
class Format:
    """An output format.

    Attributes:
        name: name for users.
        suffix: file suffix; empty for a folder.
        write: encoder, called with the path to write and the clip.
        other_suffixes: alternative file suffixes.
        lossless: whether every pixel is preserved; see `is_lossless` for WebP.
        loops: whether the file itself stores the loop count; the JSON block always does.
        fastest: frames per second that browsers show; None: any.
    """

    name: str
    suffix: str
    write: Callable[[Path, EncoderInput], None]
    other_suffixes: tuple[str, ...] = ()
    lossless: bool = False
    loops: bool = True
    fastest: float | None = None


def _write_text(part: Path, clip: EncoderInput) -> None:
    part.write_text(f"{clip.infotext}\n", encoding="utf-8", newline="\n")


FORMATS: dict[str, Format] = {
    "gif": Format("GIF", ".gif", write_gif_file, fastest=50),
    "webp": Format("WebP", ".webp", write_webp),
    "apng": Format("APNG", ".png", write_apng, other_suffixes=(".apng",), lossless=True),
    "mp4": Format("MP4", ".mp4", write_mp4, loops=False),
    "webm": Format("WebM", ".webm", write_webm, loops=False),
    "avif": Format("AVIF", ".avif", write_avif, loops=False),
    "frames": Format("PNG frames", "", write_frames, lossless=True, loops=False),
    "txt": Format("TXT", ".txt", _write_text, loops=False),
}


def check_rate(keys: Iterable[str], fps: float) -> None:
    """Check the frame rate of a clip against its formats.

    Raises:
        ClipError: a format is shown more slowly.
    """
    for row in (FORMATS[key] for key in keys):
        if row.fastest is not None and fps > row.fastest:
            raise ClipError(
                f"A {row.name} is shown at {row.fastest:g} frames per second at most, and fps is {fps:g}. Lower fps, "
                "or choose another format such as MP4.",
                code="AD-V33",
            )


def key_of(name: str) -> str:
    """Key of a format, by its name in any case.

    Raises:
        ClipError: the format is unknown.
    """
    if name.lower() not in FORMATS:
        raise ClipError(f"There is no format {name!r}. Choose from {', '.join(FORMATS)}.", code="AD-V08")
    return name.lower()


def format_of(path: Path) -> str:
    """Key of the format that a file name's suffix selects.

    Raises:
        ClipError: no format has this suffix.
    """
    suffix = path.suffix.lower()
    for key, row in FORMATS.items():
        if suffix and suffix in (row.suffix, *row.other_suffixes):
            return key
    known = ", ".join(row.suffix for row in FORMATS.values() if row.suffix)
    raise ClipError(f"{path.name} has a suffix of no known format. Use one of {known}.", code="AD-V09")


def is_lossless(key: str, encoding: Encoding) -> bool:
    """Whether a format preserves every pixel with these encoder options."""
    return FORMATS[key].lossless or (key == "webp" and encoding.lossless)


def path_for(path: Path, key: str) -> Path:
    """Path of a clip in a format: the format's suffix replaces that of any other format."""
    row = FORMATS[key]
    suffix = path.suffix.lower()
    if suffix and suffix in (row.suffix, *row.other_suffixes):
        return path
    known = {name for other in FORMATS.values() for name in (other.suffix, *other.other_suffixes)}
    stem = path.name[: -len(suffix)] if suffix in known and suffix else path.name
    return path.with_name(stem + row.suffix)
