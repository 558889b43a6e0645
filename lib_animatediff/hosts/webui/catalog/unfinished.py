"""The folder of unfinished clips: which there are, and how old and large ones make room."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from lib_animatediff.hosts.webui.compat.denoiser_outputs import folder_of_unfinished_clips
from lib_animatediff.hosts.webui.compat.options import UNFINISHED_OPTION, option
from motion_module import ClipError

from .recording import SUFFIX, Recording

_FIELD = "AnimateDiff"  # of infotexts
OLDEST = 30 * 24 * 3600.0  # seconds, after which a recording is removed


def most_bytes() -> int:
    """Of all recordings, by the user's option; 0: none are kept."""
    return int(float(option(UNFINISHED_OPTION)) * 2**30)


def recording_path(key: str) -> Path:
    """The file of a clip by the key of its identity."""
    return folder_of_unfinished_clips() / f"{key}{SUFFIX}"


def unfinished_clips() -> Iterator[Recording]:
    """The recordings that can be read and have calls, the newest first."""
    found = []
    with suppress(OSError):
        for path in folder_of_unfinished_clips().glob(f"*{SUFFIX}"):
            found.append((path.stat().st_mtime, path))
    for _, path in sorted(found, reverse=True):
        with suppress(ClipError):
            recording = Recording(path)
            if recording.count:
                yield recording


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
