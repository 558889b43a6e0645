"""Frames that are made while they are read: a clip of any length takes little memory from the sampler to the file.

Encoders read frames one by one. Each frame is made when it is first read, and kept in a temporary file for the formats
that follow and for the palette of a GIF, which looks at all frames first.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from PIL.Image import Image

_IN_MEMORY = 2**26  # bytes; short clips need no file


class SpooledFrames(Sequence["Image"]):
    """Frames from an iterator of their pixels, for any number of readings in any order.

    Args:
        coming: bytes of each frame, rows of ``r g b``. It is advanced only as far as frames are read.
        count: number of frames.
        size: width and height in pixels.
        mode: Pillow's name of the channels: RGB, or RGBA for rows of ``r g b a``.

    Attributes:
        size: width and height in pixels.
        mode: of each frame.
    """

    def __init__(self, coming: Iterator[bytes], count: int, size: tuple[int, int], mode: str = "RGB") -> None:
        self.size = size
        self.mode = mode
        self._store = _Store(coming, size, mode)
        self._places: Sequence[int] = range(count)

    def __len__(self) -> int:
        return len(self._places)

    @overload
    def __getitem__(self, place: int) -> Image: ...

    @overload
    def __getitem__(self, place: slice) -> SpooledFrames: ...

    def __getitem__(self, place: int | slice) -> Image | SpooledFrames:
        if isinstance(place, slice):
            return self.in_order(self._places[place])
        return self._store.frame(self._places[place])

    def in_order(self, places: Sequence[int]) -> SpooledFrames:
        """The same frames in another order; ``places`` count the frames as they were made."""
        frames = SpooledFrames.__new__(SpooledFrames)
        frames.size, frames.mode, frames._store, frames._places = self.size, self.mode, self._store, places
        return frames


class _Store:
    """The pixels of the frames that were made, one after the other."""

    def __init__(self, coming: Iterator[bytes], size: tuple[int, int], mode: str) -> None:
        self._coming = coming
        self._size = size
        self._mode = mode
        self._length = len(mode) * size[0] * size[1]
        self._stored = 0
        self._failure: Exception | None = None
        # It lives as long as the frames, and the system removes it with them, also if the process is killed.
        self._file: Any = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115

    def frame(self, number: int) -> Image:
        from PIL import Image

        data = None
        while self._stored <= number:
            data = self._next()
            self._file.seek(self._stored * self._length)
            self._file.write(data)
            self._stored += 1
        if data is None:
            self._file.seek(number * self._length)
            data = self._file.read(self._length)
        return Image.frombytes(self._mode, self._size, data)

    def _next(self) -> bytes:
        if self._failure is None:
            try:
                return next(self._coming)
            except StopIteration:
                self._failure = EOFError(f"only {self._stored} frames were made")
            except Exception as error:
                self._failure = error  # the iterator has ended with it, and the next format asks again
        raise self._failure
