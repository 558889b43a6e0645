"""Atomic writing of clips: written under a temporary name in the same folder, synced, then renamed."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from motion_module.limits import check_replaceable, is_folder

# Not just .part, which browsers and download managers use for files that are not ours to delete. The dot hides it.
PREFIX, SUFFIX = ".animatediff-", ".part"
LEFTOVER_AGE = 3600.0  # seconds: a file that is still being written is never untouched for this long
_RETRIES, _FIRST_WAIT = 5, 0.02  # seconds: on Windows a virus scanner may lock a new file briefly
_FILE_MODE, _FOLDER_MODE = 0o644, 0o755

_PLAIN = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is exceeded",
    errno.EFBIG: "the file would exceed the size limit of the file system",
    errno.EROFS: "the folder is read-only",
    errno.EACCES: "the folder is not writable",
    errno.EPERM: "the folder is not writable",
    errno.ENAMETOOLONG: "the name is too long",
    errno.EIO: "the disk reports an error",
    errno.EEXIST: "the name is already taken",
    errno.EISDIR: "a folder has this name",
    errno.ENOTDIR: "its folder is a file",
}


def plain_reason(error: BaseException) -> str:
    """Why writing failed, as a clause that ends a sentence."""
    number = getattr(error, "errno", None)  # PyAV's errors have it as well
    if number in _PLAIN:
        return _PLAIN[number]
    if isinstance(error, MemoryError):
        return "there is not enough memory"
    text = " ".join((getattr(error, "strerror", None) or str(error) or type(error).__name__).split())
    return text.rstrip(".")


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Temporary path that becomes ``path`` after a successful block and is removed otherwise.

    Raises:
        OSError: the folder is not writable, or the name belongs to something that is not a file.
    """
    folder = _prepared(path)
    handle, name = tempfile.mkstemp(dir=folder, prefix=PREFIX, suffix=SUFFIX)
    os.close(handle)
    part = Path(name)
    try:
        yield part
        _sync(part)
        part.chmod(_FILE_MODE)  # mkstemp's private mode would hide the clip from the user's other programs
        _move(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Like `atomic_file`, for a folder of files. Replaces an existing folder and everything in it.

    Raises:
        OSError: the folder is not writable, or the name belongs to a file.
    """
    part = Path(tempfile.mkdtemp(dir=_prepared(path), prefix=PREFIX, suffix=SUFFIX))
    try:
        yield part
        for file in part.iterdir():
            _sync(file)
        part.chmod(_FOLDER_MODE)
        _exchange(part, path)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file atomically, see `atomic_file`."""
    with atomic_file(path) as part:
        part.write_bytes(data)


def _prepared(path: Path) -> Path:
    check_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path.parent)
    return path.parent


def _remove_leftovers(folder: Path) -> None:
    """Remove files of killed processes. Failing to do so is not an error."""
    oldest = time.time() - LEFTOVER_AGE
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(PREFIX) and entry.name.endswith(SUFFIX):
                with suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    if status.st_mtime < oldest:
                        _remove(Path(entry.path), status.st_mode)


def _remove(path: Path, mode: int) -> None:
    if stat.S_ISDIR(mode):
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink()


def _sync(path: Path) -> None:
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def _exchange(part: Path, path: Path) -> None:
    """Replace a folder: no operating system renames onto a folder that is not empty."""
    if not is_folder(path):
        _move(part, path)
        return
    former = part.with_name(f"{part.name.removesuffix(SUFFIX)}-former{SUFFIX}")
    _move(path, former)
    try:
        _move(part, path)
    except BaseException:
        _move(former, path)
        raise
    shutil.rmtree(former, ignore_errors=True)


def _move(part: Path, path: Path) -> None:
    for attempt in range(_RETRIES):
        try:
            part.replace(path)
            return
        except PermissionError:
            time.sleep(_FIRST_WAIT * 2**attempt)
    part.replace(path)
