"""Rain and snow before everything else. Both fall a whole number of tiles in a clip, so that they close."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .board import RGB, Board
from .scene import FRAMES, Scene
from .scenery import chosen
from .shapes import circle, limb, per_frame
from .styles import STYLES

DROPS: RGB = (0.90, 0.94, 0.99)
FLAKES: RGB = (1.0, 1.0, 1.0)
ACROSS = (0, 2.2, -2.6, 1.1, -1.4, 2.8, -0.6)  # units from the middle of a column
DOWN = (0, 17, 6, 25, 11, 29, 3, 21)
RAIN_TILE, RAIN_FALL, SLANT = (12.0, 32.0), 4, 0.22
SNOW_TILE, SNOW_FALL = (15.0, 24.0), 2  # tiles that it falls in a clip


def paint_weather(board: Board, scene: Scene, frames: Sequence[float]) -> None:
    style = STYLES[scene.style]
    turns = [frame / FRAMES for frame in frames]
    if scene.weather == "rain":
        width, length = RAIN_TILE
        sheared = board.x + SLANT * board.y + np.float32(scene.view)
        number = np.floor(sheared / width)
        u = sheared - (number + 0.5) * width - chosen(ACROSS, number)
        fallen = per_frame([RAIN_FALL * length * turn for turn in turns])
        v = board.y - fallen + chosen(DOWN, number)
        v = v - np.floor(v / length) * length - length / 2
        drop = limb(u, v, (0, -4.5), (0, 4.5), 0.75)
        board.paint(board.cover(drop) * 0.6, style.ground(DROPS) if scene.style == "ink" else DROPS)
    if scene.weather == "snow":
        width, length = SNOW_TILE
        number = np.floor((board.x + np.float32(scene.view)) / width)
        swing = per_frame([1.5 * math.sin(math.tau * turn) for turn in turns])
        u = board.x + np.float32(scene.view) - (number + 0.5) * width - chosen(ACROSS, number) - swing
        fallen = per_frame([SNOW_FALL * length * turn for turn in turns])
        v = board.y - fallen + chosen(DOWN, number)
        v = v - np.floor(v / length) * length - length / 2
        board.paint(board.cover(circle(u, v, 0, 0, 1.5)) * 0.92, FLAKES)
