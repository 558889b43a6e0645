"""The formats as one table. To add one, write its writer and add a row."""

from __future__ import annotations

from collections.abc import Callable
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
    """A way to keep a clip.

    Attributes:
        name: what people call it.
        suffix: of its files; empty for a folder.
        write: the writer: to this place, this clip.
        other_suffixes: that files of this kind have, too.
        lossless: whether every pixel stays as it is; WebP has a choice, see `is_lossless`.
        loops: whether the file itself says how often it plays; the JSON block always does.
    """

    name: str
    suffix: str
    write: Callable[[Path, EncoderInput], None]
    other_suffixes: tuple[str, ...] = ()
    lossless: bool = False
    loops: bool = True


def _write_text(part: Path, clip: EncoderInput) -> None:
    part.write_text(f"{clip.infotext}\n", encoding="utf-8", newline="\n")


FORMATS: dict[str, Format] = {
    "gif": Format("GIF", ".gif", write_gif_file),
    "webp": Format("WebP", ".webp", write_webp),
    "apng": Format("APNG", ".png", write_apng, other_suffixes=(".apng",), lossless=True),
    "mp4": Format("MP4", ".mp4", write_mp4, loops=False),
    "webm": Format("WebM", ".webm", write_webm, loops=False),
    "avif": Format("AVIF", ".avif", write_avif, loops=False),
    "frames": Format("PNG frames", "", write_frames, lossless=True, loops=False),
    "txt": Format("TXT", ".txt", _write_text, loops=False),
}


def key_of(name: str) -> str:
    """A format's key in the table, whatever case its name is written in.

    Raises:
        ClipError: there is no such format.
    """
    if name.lower() not in FORMATS:
        raise ClipError(f"There is no format {name!r}. Choose from {', '.join(FORMATS)}.")
    return name.lower()


def format_of(path: Path) -> str:
    """The format that a file's name asks for.

    Raises:
        ClipError: none has this suffix.
    """
    suffix = path.suffix.lower()
    for key, row in FORMATS.items():
        if suffix and suffix in (row.suffix, *row.other_suffixes):
            return key
    known = ", ".join(row.suffix for row in FORMATS.values() if row.suffix)
    raise ClipError(f"{path.name}: no format has this suffix. Let the name end in one of {known}.")


def is_lossless(key: str, encoding: Encoding) -> bool:
    """Whether a file in this format holds every pixel as it was."""
    return FORMATS[key].lossless or (key == "webp" and encoding.lossless)


def path_for(path: Path, key: str) -> Path:
    """Where a clip goes in this format: ``path`` with the format's suffix in place of another format's."""
    row = FORMATS[key]
    suffix = path.suffix.lower()
    if suffix and suffix in (row.suffix, *row.other_suffixes):
        return path
    known = {name for other in FORMATS.values() for name in (other.suffix, *other.other_suffixes)}
    stem = path.name[: -len(suffix)] if suffix in known and suffix else path.name
    return path.with_name(stem + row.suffix)
