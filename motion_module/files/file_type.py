"""What a file is that cannot be read as weights, by its first bytes, and what to do about it."""

from __future__ import annotations

import zipfile
from pathlib import Path

HEAD_LENGTH = 512  # bytes that suffice to tell
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_PICKLE_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6

_REASON_LENGTH = 200
_EXCERPT_LENGTH = 60
_LONGEST_CHARACTER = 4  # bytes in UTF-8
_AGAIN = "Download it again."
_CHOOSE = "Choose the weights, such as v3_sd15_mm.ckpt."
_UNPACK = "Unpack it and choose the weights file inside."

_MAGICS = (  # of files that people download by mistake; what each is, and what to do
    (b"version https://git-lfs", "a Git LFS pointer", "Download the file itself (about 1.7 GB)."),
    (b"GGUF", "a GGUF file", "Choose the weights as safetensors or ckpt."),
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


def describe_unreadable_file(path: Path, head: bytes, error: Exception) -> tuple[str, str]:
    """The name of what a file is, and a line that says so.

    Args:
        path: the file.
        head: its first `HEAD_LENGTH` bytes.
        error: why it could not be read.
    """
    reason = " ".join(str(error).split())[:_REASON_LENGTH]
    unknown = ("no weights file", f"not a weights file ({reason}). {_AGAIN}")
    return _by_magic(head) or _as_text(head) or _as_broken_weights(path, head) or unknown


def _by_magic(head: bytes) -> tuple[str, str] | None:
    if not head:
        return "an empty file", f"the file is empty. {_AGAIN}"
    found = ((what, advice) for beginning, what, advice in _MAGICS if head.startswith(beginning))
    return next(((what, f"{what}, not the weights. {advice}") for what, advice in found), None)


def _as_text(head: bytes) -> tuple[str, str] | None:
    text = _text(head)
    if text is None:
        return None
    if text.lower().encode().startswith(_PAGES):
        return "a web page", "a web page, not the weights. Download the file itself, not its page."
    if text.startswith(("{", "[")):
        return "a JSON file", f"a JSON file, not the weights. {_CHOOSE}"
    words = " ".join(text.split())[:_EXCERPT_LENGTH]
    return "a text file", f'a text file, not the weights (it begins "{words}"). {_AGAIN}'


def _text(head: bytes) -> str | None:
    """The bytes as text, if they are some; the last character may be cut in two."""
    for cut in range(_LONGEST_CHARACTER):
        try:
            text = head[: len(head) - cut].decode("utf-8-sig")
        except UnicodeDecodeError:
            continue
        return text.lstrip() if all(letter.isprintable() or letter.isspace() for letter in text) else None
    return None


def _as_broken_weights(path: Path, head: bytes) -> tuple[str, str] | None:
    if head.startswith(ZIP_MAGIC) and _is_other_archive(path):
        return "a zip archive", f"a zip archive of something else than weights. {_UNPACK}"
    safetensors_header = head[8:9] == b"{"  # after its length
    if safetensors_header or head.startswith((ZIP_MAGIC, LEGACY_PICKLE_MAGIC)):
        return (
            "a part of a weights file",
            f"not a complete weights file: the download was cut off, or damaged. {_AGAIN}",
        )
    if head.startswith(b"\x80"):
        return "a pickle without weights", f"a pickle that torch did not write, so not the weights. {_CHOOSE}"
    return None


def _is_other_archive(path: Path) -> bool:
    """Whether a whole zip holds something else than torch's pickle; for the wording only, nothing trusts it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return not any(name.endswith("data.pkl") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False
