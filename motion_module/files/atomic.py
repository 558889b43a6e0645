"""Atomic writing of files: they appear complete or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from motion_module.limits import check_replaceable

READABLE = 0o644  # mkstemp's private mode would hide the file from the user's other programs


@contextmanager
def atomic_write(path: Path) -> Iterator[Path]:
    """Temporary path that replaces ``path`` after a successful block, once synced, and is removed otherwise.

    Raises:
        OSError: the folder cannot be written, or the path names a device.
    """
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.stem, suffix=".part")
    os.close(handle)
    part = Path(name)
    try:
        yield part
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.chmod(READABLE)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
