"""Describe files that cannot be read as weights, by their first bytes."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import NamedTuple

HEAD_LENGTH = 512  # bytes, enough to identify a file
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_PICKLE_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6

_REASON_LENGTH = 200
_EXCERPT_LENGTH = 60
_MAX_CHARACTER = 4  # bytes of a UTF-8 character
_AGAIN = "Download it again."
_CHOOSE = "Choose a weights file such as v3_sd15_mm.ckpt."
_UNPACK = "Unpack it and choose the weights file inside."

_MAGICS = (  # files that are downloaded by mistake: first bytes, name, advice
    (b"version https://git-lfs", "a Git LFS pointer", "Download the file itself (about 1.7 GB)."),
    (b"GGUF", "a GGUF file", "Choose a safetensors or ckpt file."),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"\x1f\x8b", "a gzip archive", _UNPACK),
    (b"\x89PNG", "an image", _CHOOSE),
    (b"\xff\xd8\xff", "an image", _CHOOSE),
    (b"GIF8", "a GIF", _CHOOSE),
    (b"%PDF", "a PDF", _CHOOSE),
    (b"\x89HDF", "a Keras or HDF5 file", _CHOOSE),
)
_PAGES = (b"<!doctype", b"<html", b"<head", b"<?xml", b"<svg", b"<!--")


class UnreadableFile(NamedTuple):
    """A file that cannot be read as weights.

    Attributes:
        what: what it is, with the article.
        problem: rest of the sentence that begins with its name, and advice.
        code: of the error.
    """

    what: str
    problem: str
    code: str


def describe_unreadable_file(path: Path, head: bytes, error: Exception) -> UnreadableFile:
    """Describe a file that cannot be read as weights.

    Args:
        path: the file.
        head: its first `HEAD_LENGTH` bytes.
        error: the exception that reading it raised.
    """
    reason = " ".join(str(error).split())[:_REASON_LENGTH]
    unknown = UnreadableFile("not a weights file", f"is not a weights file ({reason}). {_AGAIN}", code="AD-F26")
    return _by_magic(head) or _as_text(head) or _as_broken_weights(path, head) or unknown


def _by_magic(head: bytes) -> UnreadableFile | None:
    if not head:
        return UnreadableFile("an empty file", f"is empty. {_AGAIN}", code="AD-F18")
    for beginning, what, advice in _MAGICS:
        if head.startswith(beginning):
            return UnreadableFile(what, f"is {what}, not a weights file. {advice}", code="AD-F19")
    return None


def _as_text(head: bytes) -> UnreadableFile | None:
    text = _text(head)
    if text is None:
        return None
    if text.lower().encode().startswith(_PAGES):
        return UnreadableFile(
            "a web page",
            "is a web page, not a weights file. Download the file itself instead of its page.",
            code="AD-F20",
        )
    if text.startswith(("{", "[")):
        return UnreadableFile("a JSON file", f"is a JSON file, not a weights file. {_CHOOSE}", code="AD-F21")
    words = " ".join(text.split())[:_EXCERPT_LENGTH]
    return UnreadableFile(
        "a text file", f'is a text file, not a weights file: it begins with "{words}". {_AGAIN}', code="AD-F22"
    )


def _text(head: bytes) -> str | None:
    """The bytes as text, None if they are not text. The last character may be truncated."""
    for cut in range(_MAX_CHARACTER):
        try:
            text = head[: len(head) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        return text.lstrip() if all(letter.isprintable() or letter.isspace() for letter in text) else None
    return None


def _as_broken_weights(path: Path, head: bytes) -> UnreadableFile | None:
    if head.startswith(ZIP_MAGIC) and _is_other_archive(path):
        return UnreadableFile("a zip archive", f"is a zip archive, not a weights file. {_UNPACK}", code="AD-F23")
    safetensors_header = head[8:9] == b"{"  # follows its length
    if safetensors_header or head.startswith((ZIP_MAGIC, LEGACY_PICKLE_MAGIC)):
        return UnreadableFile(
            "an incomplete weights file",
            f"is not a complete weights file: the download was interrupted, or the file is damaged. {_AGAIN}",
            code="AD-F24",
        )
    if head.startswith(b"\x80"):
        return UnreadableFile(
            "a pickle without weights", f"is a pickle without weights, not written by torch. {_CHOOSE}", code="AD-F25"
        )
    return None


def _is_other_archive(path: Path) -> bool:
    """Whether an intact zip lacks torch's pickle. Only the message depends on it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith("data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
