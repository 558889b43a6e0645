"""Walker and car: they go on the ground, on legs that swing and wheels that turn."""

from __future__ import annotations

import numpy as np

from .figure import CLOSING, Pen
from .shapes import box, circle, polygon, turned

STRIDES = 2  # in a clip


def walker(pen: Pen, pose: str) -> None:
    """A person with a cap; from the side its peak points ahead."""
    pen.shadow(17.5, 9.5)
    if pose == "side":
        _striding(pen)
    else:
        _seen_along(pen, pose)


def _striding(pen: Pen) -> None:
    x, y = pen.x, pen.y
    swing = pen.sway(7.0, STRIDES)
    for paint, foot in (("ink", -swing), ("shade", swing)):
        pen.limb(paint, (0, 5), (foot, 14.5), 2.8)
        pen.limb("ink", (foot, 15.2), (foot + 2.6, 15.2), 2.2)
    pen.limb("shade", (0, -3), (swing * 0.9, 5.5), 2.2)
    pen.limb("body", (0, -2.5), (0, 5), 6.4)
    pen.add("wood", box(x, y, -7.5, 0, 3.2, 5.2, 2))
    pen.limb("shade", (0.5, -3), (-swing * 0.9 + 1, 5.5), 2.4)
    pen.add("skin", circle(x, y, 1.2, -11.5, 6.2))
    pen.add("skin", circle(x, y, 8, -10.2, 1.9))
    pen.add("ink", circle(x, y, 4.6, -10.8, 1.7))
    _cap(pen, 1.2)
    pen.limb("shade", (3, -14), (10.5, -13.8), 1.6)


def _seen_along(pen: Pen, pose: str) -> None:
    x, y = pen.x, pen.y
    stride = pen.sway(2.6, STRIDES) * (0 if pose == "front" else 1)
    for side in (-1, 1):
        pen.limb("shade", (side * 3.4, 5), (side * 3.4, 13 + side * stride), 3)
        pen.limb("ink", (side * 3.4, 14 + side * stride), (side * 4.4, 14 + side * stride), 2.7)
        if pose == "front":
            wave = pen.sway(2.6, STRIDES, CLOSING + 0.25 * (1 + side))
            pen.limb("body", (side * 4, -3), (side * 13.5 + wave, -11), 2.4)
            pen.add("skin", circle(x, y, side * 14 + wave, -12, 2.7))
        else:
            pen.limb("shade", (side * 6, -3), (side * 8.6, 5 - side * stride), 2.4)
    pen.limb("body", (0, -2.5), (0, 5), 6.6)
    if pose == "away":
        pen.add("wood", box(x, y, 0, 1, 6.6, 7.2, 2.4))
        pen.limb("white", (-5.4, -5), (5.4, -5), 2.2)
        pen.add("hair", circle(x, y, 0, -11.5, 6.2))
        _cap(pen, 0, -6.5)
        return
    pen.add("skin", circle(x, y, 0, -11.5, 6.4))
    for side in (-1, 1):
        pen.add("ink", circle(x, y, side * 2.8, -9.8, 1.7))
    _cap(pen, 0)
    pen.limb("shade", (-4.4, -13.8), (4.4, -13.8), 1.4)


def _cap(pen: Pen, cx: float, edge: float = -13.2) -> None:
    pen.add("body", np.maximum(circle(pen.x, pen.y, cx, -12, 6.7), pen.y - edge))


def car(pen: Pen, pose: str) -> None:
    """A car whose windscreen has eyes that look ahead; one that stands has its doors open."""
    pen.shadow(14, 16)
    if pose == "side":
        _driving(pen)
    else:
        _driven_along(pen, pose)


def _driving(pen: Pen) -> None:
    x, y = pen.x, pen.y
    pen.add("body", polygon(x, y, (-11, -10), (3, -10), (9.5, 0), (-14.5, 0)) - 1)
    pen.add("body", box(x, y, 0, 4.2, 18, 5.8, 3.4))
    pen.add("shade", box(x, y, 0, 8.2, 17, 1.8, 1))
    pen.add("glass", polygon(x, y, (-9.6, -8), (-4.6, -8), (-4.6, -1.2), (-12, -1.2)))
    pen.add("white", polygon(x, y, (-2.4, -8.4), (2.6, -8.4), (7.6, -1), (-2.4, -1)))
    pen.add("ink", circle(x, y, 2.8, -3.6, 2.2))
    pen.add("lamp", circle(x, y, 16.2, 2.6, 2.6))
    for cx in (-9.5, 9.5):
        pen.add("ink", circle(x, y, cx, 9, 5.2))
        spoke = turned(x - cx, y - 9, pen.degrees(1))
        pen.add("white", box(*spoke, 0, 0, 3.4, 1.2))


def _driven_along(pen: Pen, pose: str) -> None:
    x, y = pen.x, pen.y
    bump = pen.sway(0.5, 2) * (0 if pose == "front" else 1)
    for side in (-1, 1):
        pen.add("ink", box(x, y, side * 8.8, 10.5, 3, 4.2, 1.5))
        if pose == "front":
            pen.add("body", polygon(side * x, y, (11.5, -1), (16.8, 2), (16.8, 8), (11.5, 7.5)) - 0.4)
    y = y - bump
    pen.add("body", polygon(x, y, (-7.6, -10.5), (7.6, -10.5), (10.6, 0), (-10.6, 0)) - 1)
    pen.add("body", box(x, y, 0, 4, 13, 6.4, 3))
    if pose == "away":
        pen.add("ink", polygon(x, y, (-6.6, -8.6), (6.6, -8.6), (8.6, -1.6), (-8.6, -1.6)))
        pen.add("white", box(x, y, 0, 6, 4, 2.2, 0.6))
        for side in (-1, 1):
            pen.add("beak", box(x, y, side * 9.8, 3.4, 2, 2.4, 0.8))
        return
    pen.add("glass", polygon(x, y, (-6.8, -8.8), (6.8, -8.8), (9, -1.2), (-9, -1.2)))
    look = (0.0, 1.0) if pose == "toward" else (0.0, 0.0)
    blink = 2.3 + (pen.sway(0.9, 2, CLOSING) if pose == "front" else 0)
    for side in (-1, 1):
        Pen(x, y, pen.turns, pen.parts).eye(side * 3.8, -5, 3.1, look)
        pen.add("lamp", circle(x, y, side * 9, 3.4, blink))
    pen.add("ink", box(x, y, 0, 7, 5, 1.3, 0.8))
