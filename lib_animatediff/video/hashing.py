"""The hash of a source, by which a recipe finds it again."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from os import stat_result
from pathlib import Path

from .series import is_pattern

_CHUNK = 2**20  # bytes
States = tuple[tuple[Path, tuple[int, ...]], ...]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, or of all files in a folder or of a pattern in the order of their names."""
    return _hash_of(states_of(path))


def states_of(path: Path) -> States:
    """The files at a path, as for `file_hash`, each with what changes when it is written or replaced."""
    return tuple((file, _state(file.stat())) for file in _files_at(path) if file.is_file())


@lru_cache(maxsize=1024)
def _hash_of(files: States) -> str:
    """The hash, kept while no file changes: thousands of clips name the same checkpoint or the same images."""
    digest = hashlib.sha256()
    for file, _ in files:
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()


def _state(status: stat_result) -> tuple[int, ...]:
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def _files_at(path: Path) -> list[Path]:
    if path.is_dir():
        return sorted(path.rglob("*"))
    return sorted(path.parent.glob(path.name)) if is_pattern(path) else [path]
