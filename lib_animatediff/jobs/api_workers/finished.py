"""Which clips of WebUIs are finished: their files do not hold the row's recipe, so that a note beside them tells."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from lib_animatediff.video.atomic import write_atomic
from motion_module.limits import TEXT_BYTES, is_file, parse_json, read_limited

FOLDER = ".animatediff-finished"  # in that of the clips


class FinishedNotes:
    """The notes of a folder of clips: one file for each clip, with the sizes of its files in bytes.

    Args:
        folder: of the clips.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER

    def add(self, job: str, places: Sequence[Path]) -> None:
        """Note that the files of a clip are there.

        Raises:
            OSError: the folder is not writable.
        """
        sizes = [place.stat().st_size for place in places]
        write_atomic(self._folder / f"{job}.json", json.dumps(sizes).encode("ascii"))

    def has(self, job: str, places: Sequence[Path]) -> bool:
        """Whether all files of a clip are there as they were noted."""
        try:
            sizes = parse_json(read_limited(self._folder / f"{job}.json", TEXT_BYTES))
        except (OSError, ValueError):
            return False
        return isinstance(sizes, list) and sizes == [
            place.stat().st_size if is_file(place) else None for place in places
        ]
