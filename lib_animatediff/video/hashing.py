"""The hash of a source, by which a recipe finds it again."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from os import stat_result
from pathlib import Path

from .series import is_pattern

_CHUNK = 2**20  # bytes


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder or of a pattern in the order of their names."""
    if path.is_file():
        return _hash_of(path, _state(path.stat()))
    return _hash_of_all(_files_at(path))


@lru_cache(maxsize=1024)
def _hash_of(path: Path, _state: tuple[int, ...]) -> str:
    """The hash of one file, kept while it does not change: thousands of clips name the same checkpoint."""
    return _hash_of_all([path])


def _state(status: stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _hash_of_all(files: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in files:
        if file.is_file():
            with file.open("rb") as content:
                while chunk := content.read(_CHUNK):
                    digest.update(chunk)
    return digest.hexdigest()


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.rglob("*"))
    return sorted(path.parent.glob(path.name)) if is_pattern(path) else [path]
