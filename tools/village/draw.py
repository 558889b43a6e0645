"""Clips of scenes: scenery, what the subject hangs or jumps on, the subject, the weather before it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from .animals import bird, fish
from .board import RGB, UNITS, Board, Window
from .figure import COLOURS, Pen, paint_parts, paints
from .scene import (
    CIRCLE_RADIUS,
    FRAMES,
    HEADINGS,
    NEAREST,
    ROPE,
    Scene,
    height,
    moment,
    path,
    swing_degrees,
    turn,
)
from .scenery import NEAR, Layer, layer, paint_scenery
from .shapes import Array, box, circle, limb, per_frame
from .styles import STYLES
from .toys import ball, balloon
from .vehicles import car, walker
from .weather import paint_weather

SIZE = 96
Frames = NDArray[np.uint8]

FIGURES: dict[str, Callable[[Pen, str], None]] = {
    "walker": walker,
    "car": car,
    "bird": bird,
    "fish": fish,
    "balloon": balloon,
    "ball": ball,
}
POSES = {"left": "side", "right": "side", "up": "away", "down": "toward"}
REACH = 23.0  # of the largest subject of size 1 with its rim
TRAIL_REACH = 40.0
PUFFS = ((22.0, 0.0, 3.6), (29.0, -1.5, 2.9), (34.5, 0.8, 2.2))  # behind, aside, radius
TRAIL: RGB = (0.98, 0.98, 0.96)
PROPS: dict[str, RGB] = {"day": (0.36, 0.30, 0.34), "night": (0.76, 0.70, 0.66)}
SHADOW: RGB = (0.10, 0.10, 0.16)
SHADOWED = ("left", "right", "standing")  # what goes or stands on the ground
SQUEEZE = 0.15  # of its height, at the landing
BOTTOM = {"walker": 17.0, "car": 14.8, "bird": 17.0, "fish": 12.4, "balloon": 18.4, "ball": 13.5}  # of size 1


def clip(scene: Scene, size: int = SIZE, frames: Sequence[float] = range(FRAMES)) -> Frames:
    """Frames of a scene, f h w c. Any one of them is the same drawn alone."""
    first = frames[:1] if scene.camera.still else frames
    board = Board.blank(len(first), size)
    paint_scenery(board, scene, first)
    _paint_props(layer(board, scene, NEAR, first))
    if scene.camera.still:
        board = board.repeated(len(frames))
    paint_subject(board, scene, frames)
    paint_weather(board, scene, frames)
    return board.bytes()


def still(scene: Scene, frame: float, size: int = SIZE) -> Frames:
    """One frame of a scene, h w c."""
    return np.asarray(clip(scene, size, [frame])[0])


def mask(scene: Scene, size: int = SIZE, frames: Sequence[float] = range(FRAMES)) -> Array:
    """How much of each pixel is the subject's or its rim's, f h w: the truth about what is where."""
    plain = replace(scene, style="plain")
    covers = []
    for shade in (0.0, 1.0):
        board = Board.blank(len(frames), size)
        board.paint(1.0, (shade, shade, shade))
        _paint_figure(board, plain, frames, shadow=False)
        covers.append(board.planes[0])
    return np.asarray(1 - (covers[1] - covers[0]))


def truth(scene: Scene, size: int = SIZE) -> list[tuple[float, float]]:
    """The subject's centre in each frame, in pixels."""
    return [(x * size / UNITS, y * size / UNITS) for x, y in path(scene)]


def paint_subject(board: Board, scene: Scene, frames: Sequence[float]) -> None:
    """The subject with its trail or its rope."""
    if scene.motion in HEADINGS:
        _paint_trail(board, scene, frames)
    if scene.motion == "swinging":
        _paint_rope(board, scene, frames)
    _paint_figure(board, scene, frames)


def _pen(board: Board, scene: Scene, frames: Sequence[float], reach: float) -> tuple[Window, Pen, Array]:
    """A window around the subject, a pen in the subject's own units, and how large one of these is."""
    scale = per_frame([scene.size * scene.camera.scale(NEAREST, moment(frame)) for frame in frames])
    window = board.window(path(scene, frames), reach * float(scale.max()))
    return window, Pen(window.x / scale, window.y / scale, [turn(scene, frame) for frame in frames]), scale


def _posed(pen: Pen, scene: Scene) -> Pen:
    """The pen for what the motion does to the whole body; it shares the parts."""
    if scene.motion == "swinging":
        return pen.turned([-swing_degrees(each) for each in pen.turns])
    if scene.motion == "bouncing":
        squeeze = per_frame([SQUEEZE * (1 - height(each)) ** 2 for each in pen.turns])
        y = pen.y * (1 + squeeze) - BOTTOM[scene.subject] * squeeze  # the feet stay where they are
        return Pen(pen.x * (1 - squeeze), y, pen.turns, pen.parts)
    return pen.mirrored() if scene.motion == "left" else pen


def _paint_figure(board: Board, scene: Scene, frames: Sequence[float], shadow: bool = True) -> None:
    window, pen, scale = _pen(board, scene, frames, REACH)
    FIGURES[scene.subject](_posed(pen, scene), POSES.get(scene.motion, "front"))
    style = STYLES[scene.style]
    palette = {name: style.figure(paint) for name, paint in paints(COLOURS[scene.colour]).items()}
    solid = [part for part in pen.parts if part.paint != "shadow"]
    if shadow and scene.motion in SHADOWED:
        paint_parts(window, [part for part in pen.parts if part.paint == "shadow"], {"shadow": SHADOW}, scale)
    outline = np.minimum.reduce([np.broadcast_to(part.distance, window.planes.shape[1:]) for part in solid])
    if style.halo:
        glow = np.clip(1 - outline / np.float32(style.halo), 0, 1)
        window.paint(glow * glow * np.float32(0.7), palette["body"])
    window.paint(window.cover(outline - style.rim_width, scale), style.rim)
    paint_parts(window, solid, palette, scale)
    window.put_back()


def _paint_trail(board: Board, scene: Scene, frames: Sequence[float]) -> None:
    """Puffs behind what moves straight on."""
    window, pen, scale = _pen(board, scene, frames, TRAIL_REACH)
    across, down = HEADINGS[scene.motion]
    puffs: Array | None = None
    for number, (behind, aside, radius) in enumerate(PUFFS):
        wide = radius + pen.sway(0.5, 2, number / 3)
        puff = circle(pen.x, pen.y, -behind * across + aside * down, -behind * down + aside * across, wide)
        puffs = puff if puffs is None else np.minimum(puffs, puff)
    assert puffs is not None
    window.paint(window.cover(puffs, scale) * 0.85, STYLES[scene.style].rim if scene.style == "ink" else TRAIL)
    window.put_back()


def _prop(scene: Scene) -> RGB:
    style = STYLES[scene.style]
    return style.ridge if style.ridge_width else PROPS[scene.time]


def _paint_rope(board: Board, scene: Scene, frames: Sequence[float]) -> None:
    """From above the picture to what swings on it."""
    at = layer(board, scene, NEAR, frames)
    x, y = at.x - np.float32(scene.view), at.y
    swings = [math.radians(swing_degrees(turn(scene, frame))) for frame in frames]
    end = (
        per_frame([scene.x + ROPE * math.sin(swing) for swing in swings]),
        per_frame([scene.y - ROPE + ROPE * math.cos(swing) for swing in swings]),
    )
    rope = limb(x, y, (scene.x, scene.y - ROPE), end, 1.1)
    board.paint(board.cover(rope, at.scale), _prop(scene))
    bar = limb(x, y, (scene.x - 9, scene.y - ROPE), (scene.x + 9, scene.y - ROPE), 1.8)
    board.paint(board.cover(bar, at.scale), _prop(scene))


def _paint_props(at: Layer) -> None:
    """The wheel that a subject rides on, the trampoline that it jumps on."""
    scene, x, y = at.scene, at.x - np.float32(at.scene.view), at.y
    if scene.motion == "circling":
        ring = np.abs(circle(x, y, scene.x, scene.y, CIRCLE_RADIUS)) - 1.3
        wheel = np.minimum(ring, circle(x, y, scene.x, scene.y, 3.2))
        for side in (-1, 1):
            wheel = np.minimum(wheel, limb(x, y, (scene.x, scene.y), (scene.x + side * 10, scene.y + 27), 1.2))
        at.board.paint(at.board.cover(wheel, at.scale), _prop(scene))
    if scene.motion == "bouncing":
        top = scene.y + BOTTOM[scene.subject] * scene.size + 2
        bar = box(x, y, scene.x, top, 17, 1.6, 1.5)
        for side in (-1, 1):
            bar = np.minimum(bar, limb(x, y, (scene.x + side * 12, top), (scene.x + side * 15, top + 9), 1.2))
        at.board.paint(at.board.cover(bar, at.scale), _prop(scene))
