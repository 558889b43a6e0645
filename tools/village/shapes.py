"""Signed distances to simple shapes, below 0 inside, in the unit of the coordinates.

Only what IEEE 754 rounds in one way is used on pixels (sums, products, quotients, roots), so that the same bytes come
out on every machine. x grows to the right and y downwards; all arrays broadcast.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]
Number = float | Array
Point = tuple[Number, Number]


def per_frame(values: Sequence[float]) -> Array:
    """A number per frame, f 1 1. Rounded, because sines of two machines may differ in the last place."""
    return np.array([round(value, 5) for value in values], np.float32)[:, None, None]


def wave(turns: Array) -> Array:
    """A sine's lookalike of parabolas, exact on every machine: period 1, from -1 to 1."""
    u = turns - np.floor(turns)
    half = 2 * u - np.floor(2 * u)
    hump = 4 * half * (1 - half)
    return np.where(u < 0.5, hump, -hump)


def circle(x: Array, y: Array, cx: Number, cy: Number, radius: Number) -> Array:
    return np.sqrt((x - cx) ** 2 + (y - cy) ** 2) - radius


def ellipse(x: Array, y: Array, cx: Number, cy: Number, rx: Number, ry: Number) -> Array:
    """Near the edge a distance, further off only its sign."""
    u, v = (x - cx) / rx, (y - cy) / ry
    length = np.sqrt(u * u + v * v)
    slope = np.sqrt((u / rx) ** 2 + (v / ry) ** 2)
    return np.asarray(length * (length - 1) / (slope + 1e-6))


def box(x: Array, y: Array, cx: Number, cy: Number, wide: Number, high: Number, corner: float = 0) -> Array:
    """A rectangle of half a width and half a height, with round corners; the sides stay where they are."""
    right, below = np.abs(x - cx) - (wide - corner), np.abs(y - cy) - (high - corner)
    outside = np.sqrt(np.maximum(right, 0) ** 2 + np.maximum(below, 0) ** 2)
    return np.asarray(outside + np.minimum(np.maximum(right, below), 0) - corner)


def limb(x: Array, y: Array, start: Point, end: Point, radius: Number) -> Array:
    """A line with round ends."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    px, py = x - start[0], y - start[1]
    along = np.clip((px * dx + py * dy) / np.maximum(dx * dx + dy * dy, 1e-6), 0, 1)
    return np.asarray(np.sqrt((px - along * dx) ** 2 + (py - along * dy) ** 2) - radius)


def polygon(x: Array, y: Array, *corners: Point) -> Array:
    """A convex polygon, its corners clockwise as seen."""
    distance: Array | None = None
    for (x1, y1), (x2, y2) in zip(corners, (*corners[1:], corners[0]), strict=True):
        dx, dy = x2 - x1, y2 - y1
        side = ((x - x1) * dy - (y - y1) * dx) / np.sqrt(dx * dx + dy * dy + np.float32(1e-9))
        distance = side if distance is None else np.maximum(distance, side)
    assert distance is not None
    return np.asarray(distance)


def turned(x: Array, y: Array, degrees: Sequence[float]) -> tuple[Array, Array]:
    """Coordinates of a figure that is turned clockwise by an angle per frame."""
    cosine = per_frame([math.cos(math.radians(each)) for each in degrees])
    sine = per_frame([math.sin(math.radians(each)) for each in degrees])
    return x * cosine + y * sine, y * cosine - x * sine
