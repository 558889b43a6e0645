"""What a subject is drawn with: a pen that collects parts, and poses that show where the subject is heading.

A still must show its direction: a motion module sees no text, so the word must be readable from the picture. What
moves to a side is seen from that side; what comes down looks at us, what goes up turns its back (or nose up); what
stays where it is looks at us and holds its arms, doors, wings or fins out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from .board import RGB, Board
from .shapes import Array, Number, ellipse, limb, per_frame, turned

POSES = ("side", "away", "toward", "front")

COLOURS: dict[str, RGB] = {
    "red": (0.88, 0.16, 0.15),
    "yellow": (0.97, 0.79, 0.10),
    "green": (0.10, 0.64, 0.28),
    "blue": (0.14, 0.38, 0.90),
    "purple": (0.60, 0.24, 0.76),
}
PAINTS: dict[str, RGB] = {
    "ink": (0.13, 0.13, 0.18),
    "white": (0.99, 0.98, 0.95),
    "skin": (0.96, 0.78, 0.62),
    "glass": (0.78, 0.90, 0.96),
    "hair": (0.34, 0.22, 0.15),
    "wood": (0.58, 0.38, 0.22),
    "beak": (0.98, 0.58, 0.16),
    "lamp": (1.0, 0.93, 0.62),
}
# How far what sways twice in a clip is ahead, to be slow where bounces begin and end: on its way up a wing that rises,
# too, would make the step from the last frame to the first a larger one than usual.
CLOSING = 0.25
SHADE, LIGHT = 0.68, 0.35  # darker and lighter parts of the subject's colour


def paints(colour: RGB) -> dict[str, RGB]:
    """All paints of a subject of a colour."""
    r, g, b = colour
    return {
        "body": colour,
        "shade": (r * SHADE, g * SHADE, b * SHADE),
        "light": (r + (1 - r) * LIGHT, g + (1 - g) * LIGHT, b + (1 - b) * LIGHT),
        **PAINTS,
    }


@dataclass
class Part:
    """One shape of a figure: its distances, the name of its paint, how opaque it is."""

    distance: Array
    paint: str
    alpha: float = 1.0


@dataclass
class Pen:
    """Where a figure is drawn: coordinates around its centre, its parts from back to front, and the time in turns.

    A turn is the length of a clip and one more step, so that whatever takes whole turns closes.
    """

    x: Array
    y: Array
    turns: Sequence[float]
    parts: list[Part] = field(default_factory=list)

    def add(self, paint: str, distance: Array, alpha: float = 1.0) -> None:
        self.parts.append(Part(distance, paint, alpha))

    def sway(self, size: float, cycles: int, ahead: float = 0.0) -> Array:
        """A swing to and fro, so many times in a clip, ahead by a share of one."""
        return per_frame([size * math.sin(math.tau * (cycles * turn + ahead)) for turn in self.turns])

    def degrees(self, cycles: int) -> list[float]:
        """Whole turns of a wheel in a clip."""
        return [360 * cycles * turn for turn in self.turns]

    def turned(self, degrees: Sequence[float]) -> Pen:
        """The same pen for a turned drawing; the parts are shared."""
        x, y = turned(self.x, self.y, degrees)
        return Pen(x, y, self.turns, self.parts)

    def mirrored(self) -> Pen:
        return Pen(-self.x, self.y, self.turns, self.parts)

    def eye(self, cx: Number, cy: Number, radius: float, look: tuple[float, float] = (0, 0)) -> None:
        """An eye that looks along a direction."""
        self.add("white", ellipse(self.x, self.y, cx, cy, radius, radius))
        pupil, away = radius * 0.56, radius * 0.42
        self.add("ink", ellipse(self.x, self.y, cx + away * look[0], cy + away * look[1], pupil, pupil))

    def shadow(self, cy: float, width: float) -> None:
        self.add("shadow", ellipse(self.x, self.y, 0, cy, width, 2.6), 0.28)

    def limb(self, paint: str, start: tuple[Number, Number], end: tuple[Number, Number], radius: float) -> None:
        self.add(paint, limb(self.x, self.y, start, end, radius))


def paint_parts(board: Board, parts: Sequence[Part], palette: dict[str, RGB], scale: Number) -> None:
    """Lay parts on a board from back to front."""
    for part in parts:
        board.paint(board.cover(part.distance, scale) * part.alpha, palette[part.paint])
