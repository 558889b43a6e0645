"""Limits on what files from strangers may claim. Every reader checks them before it spends memory or time.

Each value is far beyond what real files have, and keeps a small file from costing more than about 2 GB or 10 seconds.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

IMAGE_PIXELS = 40_000_000  # an 8K frame has 33 million
VIDEO_BYTES = 4 * 10**9  # of a source video, which is read three times: to examine, to hash, and to encode it
SENT_VIDEO_BYTES = 256 * 2**20  # of a video within a request, which is held in memory
SENT_IMAGE_BYTES = 64 * 2**20  # of an image within a request
KEPT_BYTES = 2 * 2**30  # of all files that requests have sent
VIDEO_FRAMES = 100_000  # more than an hour at 24 frames per second
JPEG_SCANS = 64  # a progressive JPEG has about 10
TEXT_BYTES = 16 * 2**20  # of a recipe, a caption, a list of prompts
TABLE_FIELD = 2**20  # characters in a field of a CSV file
MANIFEST_CLIPS = 50_000  # that a manifest asks for; each of them takes seconds at least
PATTERN = 1_000  # characters of a pattern of file names; a name has 255 at most
OPEN_BRACKETS = 100  # of a prompt's emphasis within each other; real prompts have about 3
MESSAGE = 1_500  # characters of an error, which may quote what it was given
NUMBER_DIGITS = 40  # of a fraction's numerator or denominator
FASTEST, SLOWEST = 10_000, 1e-6  # frames per second of a recipe
LOOP_COUNT = 65_535  # what containers store


def kind_of_special_file(path: Path) -> str | None:
    """What a path names if it is not a regular file, such as ``"a folder"``; None for a file or nothing.

    Reading a pipe or a device may wait for ever.
    """
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return None  # whoever opens it reports the reason
    if stat.S_ISREG(mode):
        return None
    return "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"


def check_replaceable(path: Path) -> None:
    """Check that a file may be put in this place: renaming would replace a device, such as ``/dev/null``, too.

    Raises:
        OSError: the path names a pipe or a device.
    """
    what = kind_of_special_file(path)
    if what and not is_folder(path):
        raise OSError(errno.EINVAL, f"it is {what}", str(path))


def exists(path: Path) -> bool:
    """Whether there is anything; False for a path that nothing can have, where `Path.exists` raises."""
    return os.path.exists(path)  # noqa: PTH110


def is_file(path: Path) -> bool:
    """Whether it is a regular file; False for a path that no file can have, where `Path.is_file` raises."""
    return os.path.isfile(path)  # noqa: PTH113


def is_folder(path: Path) -> bool:
    """Whether it is a folder; False for a path that no folder can have, where `Path.is_dir` raises."""
    return os.path.isdir(path)  # noqa: PTH112


def read_limited(path: Path, limit: int = TEXT_BYTES) -> bytes:
    """The bytes of a regular file, at most ``limit``.

    Raises:
        OSError: it cannot be read, or is not a regular file.
    """
    if what := kind_of_special_file(path):
        raise OSError(errno.EINVAL, f"it is {what}", str(path))
    with path.open("rb") as file:
        return file.read(limit)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text.

    Raises:
        ValueError: it is not JSON, is nested too deeply, or has a number with too many digits.
    """
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def printable(text: str) -> str:
    """A text for a terminal: control characters, which could move the cursor or change colours, become spaces."""
    return "".join(character if character.isprintable() or character in "\n\t" else " " for character in text)
