"""The files of clips: inside the folder, and each of one clip."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PureWindowsPath

from lib_animatediff.cli.asked import AskedClip
from lib_animatediff.jobs.many.errors import ManifestError
from lib_animatediff.video.filenames import place_within, safe_name

_SUFFIX = ".gif"  # as for `animate`
_LONGEST = 60  # bytes of a prompt in the name of a file
_HASH = 10  # characters of the job's id there


def placed(asked: AskedClip, name: str, folder: Path, job: str, one_of_several: bool) -> AskedClip:
    """The clip with its place in the folder.

    Its seed and its job follow the name, or the prompt if there is none, so that other values of a row, or other rows,
    leave the name as it is.

    Args:
        name: of the row; may be empty.
        job: the clip's id, see `job_id`.
        one_of_several: whether the row gives this name to several clips.

    Raises:
        ManifestError: the name leads out of the folder.
        ClipError: the name leads out of the folder by a symbolic link.
    """
    request = asked.request
    return replace(asked, output=place_of(name, folder, request.prompt, request.seed, job, one_of_several))


def place_of(name: str, folder: Path, prompt: str, seed: int, job: str, one_of_several: bool) -> Path:
    """The file of a clip in the folder, see `placed`."""
    which = f"{seed}-{job[:_HASH]}"
    if not name:
        title = safe_name(" ".join(prompt.split()), longest=_LONGEST).replace(" ", "-").strip("-")
        return folder / f"{title}-{which}{_SUFFIX}"
    place = place_within(folder, _inside(name))
    return place.with_name(f"{place.stem}-{which}{place.suffix}") if one_of_several else place


def _inside(name: str) -> str:
    """A path that does not leave its folder.

    Raises:
        ManifestError: it does.
    """
    if name.startswith(("/", "\\")) or PureWindowsPath(name).is_absolute() or ".." in re.split(r"[/\\]", name):
        raise ManifestError(
            f"output {name!r:.200} leaves the folder of the clips. Give a path inside it, such as foxes/fox.gif.",
            code="AD-M37",
        )
    return name


class Taken:
    """The files that clips have taken.

    Args:
        folder: of the clips.
        is_reserved: whether the run itself writes a file.
    """

    def __init__(self, folder: Path, is_reserved: Callable[[Path], bool]) -> None:
        self._folder, self._is_reserved = folder, is_reserved
        self._by_file: dict[str, tuple[str, str]] = {}  # the job and the row

    def take(self, places: Sequence[Path], job: str, row: str) -> None:
        """Take the files of a clip. Rows that ask for the same clip may have the same files.

        Args:
            row: its place in the manifest, for messages.

        Raises:
            ManifestError: a file is that of another clip, or of the run.
        """
        for place in places:
            if self._is_reserved(place):
                raise ManifestError(
                    f"The run writes a file {self._shown(place)} of its own. Choose another output.", code="AD-M36"
                )
            other, its_row = self._by_file.get(_key(place), (job, row))
            if other != job:
                raise ManifestError(
                    f"The file {self._shown(place)} is that of {its_row} as well. Choose another output.",
                    code="AD-M26",
                )
        for place in places:
            self._by_file.setdefault(_key(place), (job, row))

    def _shown(self, place: Path) -> str:
        return place.relative_to(self._folder).as_posix()


def _key(place: Path) -> str:
    """What is the same for paths of one file, on file systems that ignore case as well."""
    return str(place.parent.resolve() / place.name).casefold()
