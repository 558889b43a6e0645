"""The folder of unfinished clips: which there are, and how old and large ones make room."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from lib_animatediff.hosts.webui.compat.denoiser_outputs import folder_of_unfinished_clips
from lib_animatediff.hosts.webui.compat.options import UNFINISHED_OPTION, option
from lib_animatediff.video.atomic import write_atomic
from motion_module import ClipError

from .recording import SUFFIX, Recording

_FIELD = "AnimateDiff"  # of infotexts
WRITTEN_SUFFIX = ".animatediff-written"
OLDEST = 30 * 24 * 3600.0  # seconds, after which a recording is removed


def most_bytes() -> int:
    """Of all recordings, by the user's option; 0: none are kept."""
    return int(float(option(UNFINISHED_OPTION)) * 2**30)


def recording_path(key: str) -> Path:
    """The file of a clip by the key of its identity."""
    return folder_of_unfinished_clips() / f"{key}{SUFFIX}"


def note_written(path: Path, clips: Sequence[Sequence[Path]]) -> None:
    """Note the files of the clips of a recording, which are written. Failing is no error."""
    with suppress(OSError):
        text = json.dumps([[str(file.absolute()) for file in files] for files in clips])
        write_atomic(_note_of(path), text.encode())


def written_files(path: Path, folder: Path) -> list[list[Path]]:
    """The files of the clips of a recording; none if one of them is not in this folder any more."""
    try:
        clips = [[Path(file) for file in files] for files in json.loads(_note_of(path).read_bytes())]
        are_there = all(file.exists() and file.resolve().is_relative_to(folder.resolve()) for c in clips for file in c)
    except Exception:  # the file can hold anything
        return []
    return clips if are_there else []


def forget_written(path: Path) -> None:
    """The clips of a recording are to be written, again. Failing is no error."""
    with suppress(OSError):
        _note_of(path).unlink(missing_ok=True)


def _note_of(path: Path) -> Path:
    return path.with_suffix(WRITTEN_SUFFIX)


def unfinished_clips() -> Iterator[Recording]:
    """The recordings that can be read and have calls, the newest first."""
    found = []
    with suppress(OSError):
        for path in folder_of_unfinished_clips().glob(f"*{SUFFIX}"):
            if not _note_of(path).exists():  # clips of a request that failed later
                status = path.stat()
                found.append((status.st_mtime_ns, status.st_size, path))
    for changed, size, path in sorted(found, reverse=True):
        with suppress(ClipError):
            recording = _read(path, changed, size)
            if recording.count:
                yield recording


@lru_cache(maxsize=64)
def _read(path: Path, _changed: int, _size: int) -> Recording:
    """Kept, since the panel asks at each change of a setting, and the last call of a recording is read to check it."""
    return Recording(path)


def asking_to_resume(infotext: str) -> str:
    """The infotext of a clip, with the setting that makes its request go on."""
    return infotext.replace(f'{_FIELD}: "', f'{_FIELD}: "resume: True, ', 1)


def make_room(own: Path) -> None:
    """Remove recordings that are old, or too large together. Failing is no error.

    Args:
        own: one that stays.
    """
    with suppress(OSError):
        others = [path for path in own.parent.glob(f"*{SUFFIX}") if path != own and path.is_file()]
        by_age = sorted(((path.stat(), path) for path in others), key=lambda one: -one[0].st_mtime)
        total, most = 0, most_bytes()
        for status, path in by_age:
            total += status.st_size
            if total > most or time.time() - status.st_mtime > OLDEST:
                path.unlink(missing_ok=True)
                forget_written(path)
