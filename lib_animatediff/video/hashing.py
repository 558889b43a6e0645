"""The hash of a source, by which a recipe finds it again."""

from __future__ import annotations

import hashlib
from pathlib import Path

from .series import is_pattern

_CHUNK = 2**20  # bytes


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder or of a pattern in the order of their names."""
    digest = hashlib.sha256()
    for file in _files_at(path):
        if file.is_file():
            with file.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.rglob("*"))
    return sorted(path.parent.glob(path.name)) if is_pattern(path) else [path]
