"""Scenery in layers: sky, far, middle, near. Each is endless to both sides, and moves under a camera by its depth."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .board import RGB, UNITS, Board
from .scene import VANISHING_POINT, Scene, moment
from .shapes import Array, Number, box, circle, ellipse, limb, per_frame, polygon, wave
from .styles import STYLES, Wash

SKY, CLOUDS, FAR, MIDDLE, NEAR = 0.05, 0.15, 0.3, 0.6, 1.0  # depths
NOWHERE = 1e3  # a distance

NIGHT = Wash(tint=(0.46, 0.50, 0.68), towards=(0.06, 0.08, 0.24), share=0.12)
RAIN: dict[str, Wash] = {
    "day": Wash(grey=0.45, tint=(0.80, 0.83, 0.87)),
    "night": Wash(grey=0.25, tint=(0.90, 0.92, 0.94)),
}
SNOWY = (0.95, 0.96, 0.98)
SNOW_COVER = {FAR: 0.2, MIDDLE: 0.4, NEAR: 0.75}  # how white a layer lies under snow
NIGHT_SKY: tuple[RGB, RGB] = ((0.06, 0.08, 0.22), (0.24, 0.28, 0.46))
MESA: RGB = (0.80, 0.60, 0.52)
LIT: RGB = (0.98, 0.84, 0.48)


@dataclass
class Layer:
    """What is painted with at one depth: coordinates of the world as the camera sees them there."""

    board: Board
    scene: Scene
    depth: float
    x: Array
    y: Array
    scale: Number

    def paint(self, distance: Array, colour: RGB, alpha: float = 1.0, lit: bool = False, line: bool = True) -> None:
        """Lay a shape over what is there, in the light of the scene unless it shines by itself."""
        style = STYLES[self.scene.style]
        if line and style.ridge_width:
            self.board.paint(self.board.cover(distance - style.ridge_width, self.scale) * alpha, style.ridge)
        shown = style.ground(colour if lit else lighted(colour, self.scene, self.depth))
        self.board.paint(self.board.cover(distance, self.scale) * alpha, shown)

    def tiles(self, width: float) -> tuple[Array, Array]:
        """Columns of a width: place within one, from its middle, and its number."""
        number = np.floor(self.x / width)
        return self.x - (number + 0.5) * width, number


def lighted(colour: RGB, scene: Scene, depth: float) -> RGB:
    """A colour of the scenery at the scene's time and in its weather."""
    if scene.weather == "snow" and depth in SNOW_COVER:
        colour = Wash(towards=SNOWY, share=SNOW_COVER[depth])(colour)
    if scene.weather == "rain":
        colour = RAIN[scene.time](colour)
    return NIGHT(colour) if scene.time == "night" else colour


def layer(board: Board, scene: Scene, depth: float, frames: Sequence[float]) -> Layer:
    """The coordinates at a depth: the camera's movement undone."""
    (cx, cy), camera = VANISHING_POINT, scene.camera
    scale = per_frame([camera.scale(depth, moment(frame)) for frame in frames])
    shift = per_frame([camera.shift(depth, moment(frame)) for frame in frames])
    x = (board.x - np.float32(cx)) / scale + np.float32(cx) - shift
    y = (board.y - np.float32(cy)) / scale + np.float32(cy)
    return Layer(board, scene, depth, x + np.float32(scene.view), y, scale)


def chosen(table: Sequence[float], number: Array) -> Array:
    """An entry of a table per tile."""
    return np.asarray(np.array(table, np.float32)[np.mod(number, len(table)).astype(np.int64)])


def scattered(at: Layer, colour: RGB, wide: float, high: float) -> None:
    """Bushes or stones on the near ground: they show that it moves."""
    u, number = at.tiles(37)
    moved, down = chosen((0, 7, -6, 3, -9), number), chosen((78, 88, 83, 91), number)
    larger = chosen((1, 0.75, 1.2), number)
    at.paint(np.maximum(ellipse(u, at.y, moved, down, wide * larger, high * larger), at.y - down - 1.5), colour)


def hills_top(x: Array) -> Array:
    return 53 - 5 * wave(x / 72 + 0.2)


def hills_far(at: Layer) -> None:
    at.paint(39 - 8 * wave(at.x / 83) - 3 * wave(at.x / 39 + 0.3) - at.y, (0.60, 0.71, 0.80))


def hills_middle(at: Layer) -> None:
    u, number = at.tiles(31)
    moved = chosen((0, 6, -5, 2, -3), number)
    foot = hills_top((number + 0.5) * 31 + moved)
    there = np.where(np.mod(number, 5) < 3, np.float32(0), np.float32(NOWHERE))
    at.paint(box(u, at.y, moved, foot - 2, 1.1, 4) + there, (0.52, 0.44, 0.36), line=False)
    at.paint(circle(u, at.y, moved, foot - 8, 5.4) + there, (0.40, 0.58, 0.44))
    at.paint(hills_top(at.x) - at.y, (0.57, 0.72, 0.52))


def hills_near(at: Layer) -> None:
    at.paint(68 - 2.5 * wave(at.x / 105) - at.y, (0.72, 0.81, 0.58))
    scattered(at, (0.60, 0.73, 0.50), 7.5, 4.6)


def town_far(at: Layer) -> None:
    u, number = at.tiles(13)
    top = chosen((34, 24, 30, 38, 20, 32, 27, 36, 30), number)
    at.paint(np.maximum(np.abs(u) - 6.8, top - at.y), (0.68, 0.71, 0.80))


def town_middle(at: Layer) -> None:
    u, number = at.tiles(25)
    eaves = chosen((49, 45, 51, 47), number)
    night = at.scene.time == "night"
    roof = polygon(u, at.y, (np.float32(-11.5), eaves), (0, eaves - 9), (np.float32(11.5), eaves))
    at.paint(roof - 0.5, (0.62, 0.46, 0.44))
    wall = np.maximum(np.abs(u) - 9.5, eaves - at.y)
    odd = np.where(np.mod(number, 2) < 1, np.float32(0), np.float32(NOWHERE))
    at.paint(wall, (0.86, 0.78, 0.66))
    at.paint(wall + odd, (0.76, 0.70, 0.74), line=False)
    window = box(np.abs(u), at.y, 4.7, eaves + 6, 2.4, 2.8)
    at.paint(window, LIT if night else (0.52, 0.60, 0.70), lit=night, line=False)


def town_near(at: Layer) -> None:
    at.paint(66 - at.y + 0 * at.x, (0.82, 0.81, 0.78))
    at.paint(71 - at.y + 0 * at.x, (0.60, 0.61, 0.65))
    u, number = at.tiles(25)
    long = chosen((7, 5, 8, 4, 6), number)
    scattered(at, (0.53, 0.54, 0.59), 7.0, 3.0)
    at.paint(box(u, at.y, 0, 84, long, 1.3), (0.84, 0.83, 0.76), line=False)


def sea_far(at: Layer) -> None:
    u, _ = at.tiles(110)
    at.paint(ellipse(u, at.y, 0, 44, 24, 12), (0.56, 0.66, 0.64))
    at.paint(43 - at.y + 0 * at.x, (0.44, 0.64, 0.76))


def sea_middle(at: Layer) -> None:
    u, number = at.tiles(70)
    moved = chosen((0, 12, -8), number)
    at.paint(polygon(u, at.y, (moved + 1, 34), (moved + 11, 49), (moved + 1, 49)), (0.96, 0.94, 0.88))
    at.paint(polygon(u, at.y, (moved - 1, 37), (moved - 1, 49), (moved - 8, 49)), (0.90, 0.86, 0.80))
    at.paint(polygon(u, at.y, (moved - 10, 51), (moved + 12, 51), (moved + 8, 56), (moved - 7, 56)), (0.55, 0.42, 0.36))
    at.paint(55 - 1.2 * wave(at.x / 14) - at.y, (0.56, 0.76, 0.83))


def sea_near(at: Layer) -> None:
    shore = 69 - 2.2 * wave(at.x / 64) - at.y
    at.paint(shore - 2, (0.95, 0.96, 0.94), line=False)
    at.paint(shore, (0.92, 0.86, 0.70))
    scattered(at, (0.80, 0.74, 0.62), 6.0, 3.2)


def desert_far(at: Layer) -> None:
    u, number = at.tiles(58)
    top, wide = chosen((27, 34, 22), number), chosen((14, 18, 11), number)
    at.paint(polygon(u, at.y, (-wide, top), (wide, top), (wide + 6, 52 + 0 * top), (-wide - 6, 52 + 0 * top)), MESA)
    at.paint(50 - at.y + 0 * at.x, (0.94, 0.82, 0.66))


def desert_top(x: Array) -> Array:
    return 53 - 5.5 * wave(x / 88 + 0.1)


def desert_middle(at: Layer) -> None:
    at.paint(desert_top(at.x) - at.y, (0.89, 0.73, 0.54))
    u, number = at.tiles(52)
    moved = chosen((0, 9, -8), number)
    foot = desert_top((number + 0.5) * 52 + moved)
    u, v, green = u - moved, at.y - foot, (0.46, 0.60, 0.46)
    cactus = limb(u, v, (0, 3), (0, -13), 2.2)
    for side, low in ((-1, -4), (1, -6)):
        cactus = np.minimum(cactus, limb(u, v, (0, low), (side * 6, low), 1.6))
        cactus = np.minimum(cactus, limb(u, v, (side * 6, low), (side * 6, low - 5), 1.6))
    at.paint(cactus, green)


def desert_near(at: Layer) -> None:
    at.paint(68 - 3 * wave(at.x / 97) - at.y, (0.95, 0.84, 0.64))
    scattered(at, (0.84, 0.68, 0.54), 6.5, 3.8)


@dataclass(frozen=True)
class Scenery:
    """A sky from top to bottom, and painters by depth, from far to near."""

    sky: tuple[RGB, RGB]
    layers: tuple[tuple[float, Callable[[Layer], None]], ...]


def _of(sky: tuple[RGB, RGB], *painters: Callable[[Layer], None]) -> Scenery:
    return Scenery(sky, tuple(zip((FAR, MIDDLE, NEAR), painters, strict=True)))


SCENERIES: dict[str, Scenery] = {
    "hills": _of(((0.60, 0.78, 0.92), (0.88, 0.93, 0.94)), hills_far, hills_middle, hills_near),
    "town": _of(((0.68, 0.78, 0.90), (0.94, 0.91, 0.86)), town_far, town_middle, town_near),
    "sea": _of(((0.62, 0.82, 0.94), (0.95, 0.96, 0.91)), sea_far, sea_middle, sea_near),
    "desert": _of(((0.78, 0.85, 0.86), (0.99, 0.91, 0.76)), desert_far, desert_middle, desert_near),
}


def paint_sky(board: Board, scene: Scene, frames: Sequence[float]) -> None:
    """The sky's colours, and what is in it."""
    night, style = scene.time == "night", STYLES[scene.style]
    ends = NIGHT_SKY if night else SCENERIES[scene.scenery].sky
    if scene.weather == "rain":
        ends = (RAIN[scene.time](ends[0]), RAIN[scene.time](ends[1]))
    top, bottom = (style.ground(end) for end in ends)
    board.paint(1.0, top)
    board.paint(np.clip(board.y / np.float32(0.6 * UNITS), 0, 1), bottom)
    at = layer(board, scene, SKY, frames)
    if night and scene.weather != "rain":
        u, number = at.tiles(17)
        row = np.floor(at.y / 15)
        across = chosen((0, 5, -4, 3, -6, 1, 4), number + 3 * row)
        down = chosen((6, 10, 4, 8, 12), 2 * number + row)
        star = np.where(row < 3, circle(u, at.y - row * 15, across, down, 0.9), np.float32(NOWHERE))
        at.paint(star, (0.96, 0.95, 0.86), 0.9, lit=True, line=False)
    if scene.weather == "clear":
        place = 18 + scene.view % 60
        disc = circle(at.x - np.float32(scene.view), at.y, place, 16, 7)
        if night:
            disc = np.maximum(disc, -circle(at.x - np.float32(scene.view), at.y, place + 5, 13, 6.6))
        at.paint(disc, (0.98, 0.96, 0.84) if night else (1.0, 0.92, 0.66), lit=True)
    if not night or scene.weather == "rain":
        _clouds(layer(board, scene, CLOUDS, frames))


def _clouds(at: Layer) -> None:
    width = 62 if at.scene.weather == "clear" else 40
    u, number = at.tiles(width)
    moved, high = chosen((0, 0.18, -0.15, 0.1), number) * width, chosen((12, 20, 9), number)
    cloud = np.minimum(ellipse(u, at.y, moved, high, 11, 3.6), ellipse(u, at.y, moved - 1, high - 3, 6.4, 4.6))
    at.paint(cloud, (0.97, 0.97, 0.97), 0.9)


def paint_scenery(board: Board, scene: Scene, frames: Sequence[float]) -> None:
    """Sky and layers, from far to near."""
    paint_sky(board, scene, frames)
    for depth, painter in SCENERIES[scene.scenery].layers:
        painter(layer(board, scene, depth, frames))
