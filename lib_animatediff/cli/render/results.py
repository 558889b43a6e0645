"""What a run of `render` leaves beside its clips: failed.jsonl, index.html and a contact sheet."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from lib_animatediff.jobs.many.index_page import ShownClip, ShownFailure, index_page
from lib_animatediff.jobs.many.random_seeds import FILE as RANDOM_SEED
from lib_animatediff.video import read_clip, write_contact_sheet
from lib_animatediff.video.atomic import write_atomic
from motion_module import AnimateDiffError
from motion_module.limits import is_folder

from .clips import ClipJob, Row

if TYPE_CHECKING:
    from PIL.Image import Image

_FAILURES, _INDEX, _SHEET = _RESULTS = ("failed.jsonl", "index.html", "contact-sheet.png")
_SHARD = re.compile(r"-[0-9]+-of-[0-9]+\.")
MOST_ON_SHEET = 400  # clips, since a frame of each is decoded
_SIDE, _COLUMNS = 128, 20  # pixels of a frame there
_VISIBLE = "gif webp png apng avif mp4 webm".split()  # suffixes of what a page shows


class Results:
    """The results of a run.

    Args:
        folder: of the clips.
        title: of the page.
        part: of the names of the files, for a run of a part of the manifest.
    """

    def __init__(self, folder: Path, title: str, part: str = "") -> None:
        self._folder, self._title, self._part = folder, title, part
        self._failures: list[tuple[Row | ClipJob, AnimateDiffError]] = []
        self._clips: list[tuple[ClipJob, Path]] = []

    @property
    def failures_path(self) -> Path:
        """The file of `write_failures`."""
        return self._place(_FAILURES)

    def is_reserved(self, place: Path) -> bool:
        """Whether this run, or one of a shard, writes a file."""
        name = place.name.casefold()
        own = {self._place(result).name.casefold() for result in _RESULTS}
        return place.parent == self._folder and (
            name in own or _SHARD.sub(".", name) in _RESULTS or name == RANDOM_SEED.casefold()
        )

    @property
    def failed(self) -> int:
        """How many rows failed."""
        return len(self._failures)

    @property
    def finished(self) -> int:
        """How many clips are there."""
        return len(self._clips)

    def fail(self, row: Row | ClipJob, error: AnimateDiffError) -> None:
        """Note a row that cannot be rendered."""
        self._failures.append((row, error))

    def finish(self, job: ClipJob) -> None:
        """Note a clip that is there. Of several files, the page shows one that browsers know."""
        self._clips.append((job, min(job.places, key=_visibility)))

    def write_failures(self, fields_of: Callable[[int], object]) -> Path | None:
        """Write failed.jsonl; None, and no file, if nothing failed.

        Args:
            fields_of: the fields of a row, by its number.

        Raises:
            OSError: the folder is not writable.
        """
        path = self.failures_path
        if not self._failures:
            path.unlink(missing_ok=True)
            return None
        lines = (
            json.dumps(
                {
                    "clip": row.number,
                    "row": row.place,
                    "error": error.message,
                    "code": error.code,
                    "fields": fields_of(row.number),
                },
                ensure_ascii=False,
                default=str,
            )
            for row, error in sorted(self._failures, key=lambda failure: failure[0].number)
        )
        write_atomic(path, "".join(f"{line}\n" for line in lines).encode(errors="replace"))
        return path

    def write_index(self) -> Path:
        """Write index.html.

        Raises:
            OSError: the folder is not writable.
        """
        clips = [
            ShownClip(job.number, self._relative(place), self._relative(_image_of(place)), job.title, job.seed)
            for job, place in self._clips
        ]
        failures = [ShownFailure(row.number, row.place, str(error)) for row, error in self._failures]
        path = self._place(_INDEX)
        write_atomic(path, index_page(self._title, clips, failures).encode(errors="replace"))
        return path

    def write_sheet(self) -> Path | None:
        """Write a PNG with the first frame of each of the first clips; None if there is none to show.

        Raises:
            OSError: the folder is not writable.
        """
        frames = []
        for _, place in sorted(self._clips, key=lambda clip: clip[0].number)[:MOST_ON_SHEET]:
            with suppress(AnimateDiffError):
                frames.append(_small(next(read_clip(place, count=1)).image))
        if not frames:
            return None
        path = self._place(_SHEET)
        write_contact_sheet(path, frames, columns=_COLUMNS)
        return path

    def _place(self, name: str) -> Path:
        stem, dot, suffix = name.partition(".")
        return self._folder / f"{stem}{self._part}{dot}{suffix}"

    def _relative(self, place: Path) -> str:
        return place.relative_to(self._folder).as_posix()


def _visibility(place: Path) -> int:
    """A rank: 0 is what a page can play, 1 is a folder of frames."""
    if place.suffix[1:].lower() in _VISIBLE:
        return 0
    return 1 if is_folder(place) else 2


def _image_of(place: Path) -> Path:
    """What shows a clip: its file, or the first frame in its folder."""
    frames = sorted(place.glob("*.png")) if is_folder(place) else []
    return frames[0] if frames else place


def _small(image: Image) -> Image:
    from PIL import ImageOps

    return ImageOps.pad(image.convert("RGB"), (_SIDE, _SIDE))
