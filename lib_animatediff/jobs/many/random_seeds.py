"""Random seeds that are written down, so that a second run gives the same clips.

A folder has one random number, drawn by the first run. The seed of a row follows from it and from the row, so that
runs that share the folder agree without waiting for each other.
"""

from __future__ import annotations

import hashlib
import json
import os
import secrets
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from lib_animatediff.video.atomic import plain_reason
from motion_module.limits import exists, read_limited

from .errors import StoppedError

FILE = "random-seed.txt"
_SEEDS = 2**32  # as in the WebUI
_BITS = 64  # of the folder's random number
_LONGEST = 100  # characters of the file


class RandomSeeds:
    """The random seeds of the rows of a run.

    Args:
        folder: of the clips, which exists.
        keep: whether the random number is written down, if this run draws it.
    """

    def __init__(self, folder: Path, keep: bool = True) -> None:
        self._path, self._keep = folder / FILE, keep
        self._number: int | None = None

    def of(self, row: Mapping[str, Any], repeats: int) -> int:
        """The seed of a row. Rows that are the same have different ones.

        Args:
            repeats: how many rows of the manifest before it are the same.

        Raises:
            StoppedError: the folder's random number is damaged, or cannot be written.
        """
        if self._number is None:
            self._number = _number_of(self._path) if self._keep or exists(self._path) else secrets.randbits(_BITS)
        drawn = hashlib.sha256(f"{self._number} {repeats + 1} {key_of(row)}".encode()).digest()
        return int.from_bytes(drawn, "big") % _SEEDS


def key_of(row: Mapping[str, Any]) -> str:
    """A text that is the same for rows with the same fields."""
    return json.dumps(row, sort_keys=True, default=str)


def _number_of(path: Path) -> int:
    """The number in a file, which is drawn if there is none."""
    try:
        if not exists(path):
            _create(path, secrets.randbits(_BITS))
        text = read_limited(path, _LONGEST).strip()
    except OSError as error:
        raise StoppedError(
            f"{path} cannot be written ({plain_reason(error)}), which keeps random seeds. Choose another --output.",
            code="AD-M28",
        ) from error
    if not text.isdigit():
        raise StoppedError(f"{path} is damaged. Remove it to draw other random seeds.", code="AD-M19")
    return int(text)


def _create(path: Path, number: int) -> None:
    """Write the file unless another run was faster. It is complete as soon as it has its name."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".random-seed-")
    with os.fdopen(handle, "w", encoding="ascii") as file:
        file.write(f"{number}\n")
    part = Path(name)
    try:
        with suppress(FileExistsError):
            os.link(part, path)
    except OSError:  # a file system without links
        if not exists(path):
            part.replace(path)
    finally:
        part.unlink(missing_ok=True)
