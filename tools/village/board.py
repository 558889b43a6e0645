"""A board to paint on: planes of red, green and blue for several frames at once, from 0 to 1.

Coordinates are in units; a picture is `UNITS` wide and high at every resolution.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .shapes import Array, Number

UNITS = 96.0
RGB = tuple[float, float, float]


class Board:
    """Frames with the coordinates of their pixels.

    Attributes:
        planes: red, green and blue, 3 f h w.
        x: across in units, f 1 w or 1 1 w.
        y: down in units, f h 1 or 1 h 1.
        sharpness: pixels per unit.
    """

    def __init__(self, planes: Array, x: Array, y: Array, sharpness: float) -> None:
        self.planes, self.x, self.y, self.sharpness = planes, x, y, sharpness

    @classmethod
    def blank(cls, frames: int, size: int) -> Board:
        pixels = (np.arange(size, dtype=np.float32) + np.float32(0.5)) * np.float32(UNITS / size)
        planes = np.zeros((3, frames, size, size), np.float32)
        return cls(planes, pixels[None, None, :], pixels[None, :, None], size / UNITS)

    def repeated(self, frames: int) -> Board:
        """The same picture for several frames."""
        return Board(np.repeat(self.planes, frames, axis=1), self.x, self.y, self.sharpness)

    def cover(self, distance: Array, scale: Number = 1.0) -> Array:
        """How much of each pixel lies inside an edge at a distance: the anti-aliasing."""
        return np.clip(0.5 - distance * (scale * self.sharpness), 0, 1)

    def paint(self, cover: Number, colour: RGB) -> None:
        """Lay a colour over the board."""
        for channel, value in enumerate(colour):
            self.planes[channel] += cover * (np.float32(value) - self.planes[channel])

    def window(self, centres: Sequence[tuple[float, float]], reach: float) -> Window:
        """A square cut-out around a point per frame, with coordinates that begin at that point."""
        size = self.planes.shape[-1]
        side = min(size, 2 * int(reach * self.sharpness + 1))
        corners = [[_corner(along * self.sharpness, side, size) for along in centre] for centre in centres]
        places = [(*corner, *centre) for corner, centre in zip(corners, centres, strict=True)]
        planes = np.stack(
            [self.planes[:, f, top : top + side, left : left + side] for f, (left, top) in enumerate(corners)], axis=1
        )
        x = np.stack([self.x[0, 0, left : left + side] - np.float32(cx) for left, _, cx, _ in places])
        y = np.stack([self.y[0, top : top + side, 0] - np.float32(cy) for _, top, _, cy in places])
        return Window(planes, x[:, None, :], y[:, :, None], self.sharpness, self, corners)

    def bytes(self) -> NDArray[np.uint8]:
        """The frames, f h w c."""
        values = np.clip(self.planes, 0, 1) * np.float32(255) + np.float32(0.5)
        return np.ascontiguousarray(values.astype(np.uint8).transpose(1, 2, 3, 0))


class Window(Board):
    """A cut-out of a board. What is painted on it shows after `put_back`."""

    def __init__(
        self, planes: Array, x: Array, y: Array, sharpness: float, board: Board, corners: list[list[int]]
    ) -> None:
        super().__init__(planes, x, y, sharpness)
        self.board, self.corners = board, corners

    def put_back(self) -> None:
        side = self.planes.shape[-1]
        for f, (left, top) in enumerate(self.corners):
            self.board.planes[:, f, top : top + side, left : left + side] = self.planes[:, f]


def _corner(centre: float, side: int, size: int) -> int:
    """Where a window begins on one axis: around its centre, and yet inside the picture."""
    return min(max(round(centre) - side // 2, 0), size - side)
