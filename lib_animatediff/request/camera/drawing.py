"""A drawing of a camera path: from above, from the side, and what the cameras make of a picture before the first one.

Cameras are pyramids that open to where they look, with a mark at their upper edge. The first one is light, the last one
dark. The third panel has the outline of a picture that fills the first camera's view, as the later cameras see it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from lib_animatediff.video.atomic import atomic_file
from motion_module.camera_ctrl.poses import CameraPose

if TYPE_CHECKING:
    from PIL.Image import Image

SIDE = 220  # of a panel, in pixels
MARGIN, TITLE = 14, 20
MOST_CAMERAS = 5  # that are drawn along the path
DEPTH = 0.45  # of a drawn camera, in units of its path
SMALLEST = 3.0  # units that a panel shows at least, so that a camera that hardly moves looks so
PICTURE = 6.0  # units from the first camera to its picture
NEAREST = 0.05  # units before a camera: what is closer is not seen
SHOWN = 2.1  # half of the side of the third panel, where the picture's half is 1
LIGHT, DARK = (158, 186, 226), (16, 42, 110)
INK, PAPER, EDGE = (60, 60, 60), (255, 255, 255), (190, 190, 190)
TITLES = ("From above", "From the side", "A picture, as seen")
Colour = tuple[int, int, int]
Point = tuple[float, float]
Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Stroke:
    """A line through points of the drawing, in pixels."""

    points: tuple[Point, ...]
    colour: Colour
    width: float = 1.5


@dataclass(frozen=True)
class Drawing:
    """Lines and titles of a drawing.

    Attributes:
        strokes: in the order in which they are drawn.
        words: with the place of their lower left corner.
    """

    strokes: tuple[Stroke, ...]
    words: tuple[tuple[Point, str], ...]
    width: int = len(TITLES) * SIDE
    height: int = SIDE + TITLE

    def svg(self) -> str:
        """The drawing as SVG."""
        lines = [
            f'<polyline fill="none" stroke="rgb{stroke.colour}" stroke-width="{stroke.width:g}" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in stroke.points)
            + '"/>'
            for stroke in self.strokes
        ]
        lines += [
            f'<text x="{x:.1f}" y="{y:.1f}" font-family="sans-serif" font-size="12" fill="rgb{INK}">{text}</text>'
            for (x, y), text in self.words
        ]
        size = f'width="{self.width}" height="{self.height}" viewBox="0 0 {self.width} {self.height}"'
        paper = f'<rect width="100%" height="100%" fill="rgb{PAPER}"/>'
        return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', paper, *lines, "</svg>"]) + "\n"

    def image(self) -> Image:
        """The drawing as an image."""
        from PIL import Image, ImageDraw

        page = Image.new("RGB", (self.width, self.height), PAPER)
        pen = ImageDraw.Draw(page)
        for stroke in self.strokes:
            pen.line(stroke.points, stroke.colour, round(stroke.width), joint="curve")
        for (x, y), text in self.words:
            pen.text((x, y - 11), text, INK)
        return page

    def write(self, path: Path) -> None:
        """Write the drawing: as SVG, or as an image if the file has another suffix."""
        with atomic_file(path) as part:
            if path.suffix.lower() == ".svg":
                part.write_text(self.svg(), encoding="utf-8")
            else:
                self.image().save(part, "PNG")


def draw_path(poses: Sequence[CameraPose]) -> Drawing:
    """The drawing of a camera path."""
    count = min(MOST_CAMERAS, len(poses))
    chosen = [round(number * (len(poses) - 1) / max(count - 1, 1)) for number in range(count)]
    cameras = [(_pyramid(poses[number]), _shade(number, len(poses))) for number in chosen]
    path = [pose.centre for pose in poses]
    strokes: list[Stroke] = []
    for panel, (across, up) in enumerate((((0, 1), (2, 1)), ((2, 1), (1, -1)))):
        lines = [(_flat(line, across, up), shade) for lines, shade in cameras for line in lines]
        lines += [(_flat(path, across, up), INK)]
        strokes += _fitted(lines, panel)
    strokes += _as_seen([(poses[number], _shade(number, len(poses))) for number in chosen], poses[0], panel=2)
    edges = [_box(panel) for panel in range(len(TITLES))]
    words = tuple(((panel * SIDE + MARGIN, TITLE - 6.0), title) for panel, title in enumerate(TITLES))
    return Drawing((*edges, *strokes), words)


def _pyramid(pose: CameraPose) -> list[list[Vector]]:
    """The lines of a camera: its four edges, the frame of its image, and a mark on the upper side."""
    wide, high = DEPTH * 0.5 / pose.fx, DEPTH * 0.5 / pose.fy
    corners = [_point(pose, x * wide, y * high, DEPTH) for x, y in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    mark = [_point(pose, x * wide, y * high, DEPTH) for x, y in ((-0.5, -1.15), (0, -1.8), (0.5, -1.15), (-0.5, -1.15))]
    return [[*corners, corners[0]], mark, *([pose.centre, corner] for corner in corners)]


def _point(pose: CameraPose, x: float, y: float, z: float) -> Vector:
    """A point of the camera's axes in the world."""
    right, down, ahead, centre = pose.direction(0), pose.direction(1), pose.direction(2), pose.centre
    a, b, c = (centre[n] + x * right[n] + y * down[n] + z * ahead[n] for n in range(3))
    return a, b, c


def _flat(points: Sequence[Vector], across: tuple[int, int], up: tuple[int, int]) -> list[Point]:
    """Points on the page: an axis with its sign to the right and one upwards."""
    return [(across[1] * p[across[0]], up[1] * p[up[0]]) for p in points]


def _fitted(lines: Sequence[tuple[list[Point], Colour]], panel: int) -> list[Stroke]:
    """Lines of a panel, in one scale for both directions, with what is drawn in the middle."""
    points = [point for line, _ in lines for point in line]
    (left, right), (low, high) = ((min(each), max(each)) for each in zip(*points, strict=True))
    scale = (SIDE - 2 * MARGIN) / max(right - left, high - low, SMALLEST)
    middle = (left + right) / 2, (low + high) / 2
    return [
        Stroke(
            tuple((_centre(panel) + (x - middle[0]) * scale, _middle() - (y - middle[1]) * scale) for x, y in line),
            colour,
            1.5 if colour != INK else 1,
        )
        for line, colour in lines
    ]


def _as_seen(cameras: Sequence[tuple[CameraPose, Colour]], first: CameraPose, panel: int) -> list[Stroke]:
    """A picture before the first camera, as each camera sees it; a line leads from its middle to its upper edge."""
    wide, high = PICTURE * 0.5 / first.fx, PICTURE * 0.5 / first.fy
    outline = [(-1, -1), (1, -1), (1, 1), (-1, 1), (-1, -1)]
    scale = (SIDE / 2 - MARGIN) / SHOWN
    strokes = []
    for pose, shade in cameras:
        for line in (outline, [(0, 0), (0, -1)]):
            seen = [_projected(pose, _point(first, x * wide, y * high, PICTURE)) for x, y in line]
            if any(point is None for point in seen):
                continue  # behind the camera
            places = [(_centre(panel) + scale * x, _middle() + scale * y) for x, y in filter(None, seen)]
            strokes += [Stroke(part, shade) for part in _inside(places, panel)]
    return strokes


def _projected(pose: CameraPose, point: Vector) -> Point | None:
    """Where a camera sees a point, from -1 to 1 in its image; None: behind it."""
    m = pose.matrix
    x, y, z = (sum(m[4 * row + k] * point[k] for k in range(3)) + m[4 * row + 3] for row in range(3))
    return None if z < NEAREST else (2 * pose.fx * x / z, 2 * pose.fy * y / z)


def _inside(points: Sequence[Point], panel: int) -> list[tuple[Point, ...]]:
    """The parts of a line inside a panel (Liang and Barsky's algorithm)."""
    left, right, top, bottom = panel * SIDE + 2, (panel + 1) * SIDE - 2, TITLE + 2, TITLE + SIDE - 2
    found = []
    for (x0, y0), (x1, y1) in pairwise(points):
        enter, leave = 0.0, 1.0
        for way, room in ((x0 - x1, x0 - left), (x1 - x0, right - x0), (y0 - y1, y0 - top), (y1 - y0, bottom - y0)):
            if way < 0:
                enter = max(enter, room / way)
            elif way > 0:
                leave = min(leave, room / way)
            elif room < 0:
                enter = 2.0
        if enter < leave:
            found.append(tuple((x0 + t * (x1 - x0), y0 + t * (y1 - y0)) for t in (enter, leave)))
    return found


def _box(panel: int) -> Stroke:
    left, right, top, bottom = panel * SIDE + 1, (panel + 1) * SIDE - 1, TITLE + 1, TITLE + SIDE - 1
    return Stroke(((left, top), (right, top), (right, bottom), (left, bottom), (left, top)), EDGE, 1)


def _centre(panel: int) -> float:
    return panel * SIDE + SIDE / 2


def _middle() -> float:
    return TITLE + SIDE / 2


def _shade(number: int, frames: int) -> Colour:
    share = number / max(frames - 1, 1)
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(LIGHT, DARK, strict=True))
    return red, green, blue
