"""Waits for manifests that are put into a folder."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from lib_animatediff.jobs.many.errors import ManifestError
from lib_animatediff.jobs.many.manifest import SUFFIXES
from lib_animatediff.video.atomic import plain_reason

LOOK = 2.0  # seconds between looks
RETRY = 60.0  # seconds until a manifest is tried again whose run ended early
_State = tuple[int, int]  # size and time of change, which are only compared


class Watched:
    """The manifests of a folder, each as soon as it has stayed as it is for a while, and again when it changes.

    Iterating never ends.

    Args:
        now: seconds, of a clock that only goes forward.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.monotonic) -> None:
        self._folder, self._now = folder, now
        self._yielded: dict[Path, _State] = {}
        self._due: dict[Path, float] = {}  # when a manifest is tried again

    def retry(self, path: Path) -> None:
        """Yield a manifest again after a while, even if it does not change."""
        self._due[path] = self._now() + RETRY

    def __iter__(self) -> Iterator[Path]:
        before: dict[Path, _State] = {}
        while True:
            now = self._look()
            for path, state in now.items():
                is_due = self._due.get(path, math.inf) <= self._now()
                if before.get(path) == state and (is_due or self._yielded.get(path) != state):
                    self._yielded[path] = state
                    self._due.pop(path, None)
                    yield path
            before = now
            time.sleep(LOOK)

    def _look(self) -> dict[Path, _State]:
        """The manifests that are there.

        Raises:
            ManifestError: the folder cannot be read.
        """
        try:
            return {path: _state(path) for path in sorted(self._folder.iterdir()) if _is_manifest(path)}
        except FileNotFoundError as error:
            if self._folder.is_dir():  # a manifest was removed in this moment
                return {}
            raise ManifestError(f"There is no folder {self._folder}. Create it first.", code="AD-M34") from error
        except OSError as error:
            raise ManifestError(
                f"{self._folder} cannot be read ({plain_reason(error)}). Give another folder.", code="AD-M35"
            ) from error


def _is_manifest(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()


def _state(path: Path) -> _State:
    status = path.stat()
    return status.st_size, status.st_mtime_ns
