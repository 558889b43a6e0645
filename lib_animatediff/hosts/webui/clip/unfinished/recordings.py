"""The recordings of one request, of which one belongs to each batch, and the files of those whose clips are written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from lib_animatediff.hosts.webui.catalog.unfinished import forget_written, note_written, written_files


class Recordings:
    """The recordings by the number of the batch."""

    def __init__(self) -> None:
        self._paths: dict[int, Path] = {}
        self._resumed: set[int] = set()

    def add(self, batch: int, path: Path, *, is_resumed: bool) -> None:
        """A batch is recorded at this path; it goes on from a recording there, or begins again."""
        self._paths[batch] = path
        if is_resumed:
            self._resumed.add(batch)
        else:
            forget_written(path)

    def note_written(self, batch: int, clips: Sequence[Sequence[Path]]) -> None:
        """The clips of a batch are written, to these files. Its recording stays until the request is complete."""
        if (path := self._paths.get(batch)) is not None and path.exists():
            note_written(path, clips)

    def known_files(self, folder: Path) -> dict[int, list[list[Path]]]:
        """The files that the interrupted request has written into the folder: those of each clip, by the batch."""
        return {batch: written_files(self._paths[batch], folder) for batch in self._resumed}

    def remove(self) -> None:
        """Remove all, since the request is complete."""
        for path in self._paths.values():
            with suppress(OSError):
                path.unlink(missing_ok=True)
            forget_written(path)
        self._paths, self._resumed = {}, set()
