"""Bird and fish: one flaps its wings, the other wags its tail."""

from __future__ import annotations

import numpy as np

from .figure import CLOSING, Pen
from .shapes import Point, circle, ellipse, polygon

FLAPS, WAGS = 2, 2  # in a clip
DEGREES = {"away": -90.0, "toward": 90.0}  # what flies or swims up and down turns its nose there


def bird(pen: Pen, pose: str) -> None:
    """From the side a bird with one wing, along its way one seen from above, and else one that faces us."""
    if pose == "side":
        _bird_from_the_side(pen)
    elif pose == "front":
        _bird_from_the_front(pen)
    else:
        _bird_from_above(pen.turned([DEGREES[pose]]))


def _bird_from_the_side(pen: Pen) -> None:
    x, y = pen.x, pen.y
    lift = pen.sway(10.5, FLAPS)
    pen.add("shade", polygon(x, y, (-18.5, -4), (-8, -3), (-8, 4), (-19, 3)))
    pen.add("beak", polygon(x, y, (12.6, -6.8), (17.8, -2.6), (12, -0.6)))
    pen.add("body", ellipse(x, y, -1, 1, 11.5, 7.2))
    pen.add("body", circle(x, y, 8.5, -4, 6.4))
    pen.add("light", ellipse(x, y, 1, 4.4, 7, 3.2))
    pen.eye(10.2, -5.2, 2.6, (0.8, 0))
    pen.limb("shade", (1, -0.5), (-4 - np.abs(lift) * 0.2, -0.5 - lift), 4)
    pen.limb("shade", (-3, -0.5), (-6.5 - np.abs(lift) * 0.2, -0.5 - lift * 0.8), 3.2)


def _bird_from_above(pen: Pen) -> None:
    """Its nose to the right; turned by the caller."""
    x, y = pen.x, pen.y
    span = 12.6 + pen.sway(3.6, FLAPS)
    back = pen.sway(3.0, FLAPS, 0.5) - 3
    pen.add("shade", polygon(x, y, (-18, -5.5), (-8, -2.5), (-8, 2.5), (-18, 5.5)))
    for side in (-1, 1):
        pen.limb("shade", (3, side * 4), (back, side * span), 4)
    pen.add("beak", polygon(x, y, (13, -3.4), (18, 0), (13, 3.4)))
    pen.add("body", ellipse(x, y, -1, 0, 11.5, 6.4))
    pen.add("body", circle(x, y, 9.5, 0, 6))
    for side in (-1, 1):
        pen.eye(11.6, side * 3.4, 2.3, (0.8, 0))


def _bird_from_the_front(pen: Pen) -> None:
    x, y = pen.x, pen.y
    lift = pen.sway(4.5, FLAPS, CLOSING)
    for side in (-1, 1):
        pen.limb("shade", (side * 8, 1), (side * 13.6, -1 - lift), 3.4)
        pen.limb("beak", (side * 3.6, 13.4), (side * 4.6, 15), 2)
    pen.add("body", ellipse(x, y, 0, 1.5, 10.5, 12.6))
    pen.add("light", ellipse(x, y, 0, 7, 6, 5.6))
    for side in (-1, 1):
        pen.eye(side * 4.2, -4, 3.7)
    pen.add("beak", polygon(x, y, (-2.8, -0.6), (2.8, -0.6), (0, 4)))


def fish(pen: Pen, pose: str) -> None:
    """A striped fish, nose ahead; one that stays faces us."""
    if pose == "front":
        _fish_from_the_front(pen)
    else:
        _fish_from_the_side(pen.turned([DEGREES[pose]]) if pose in DEGREES else pen)


def _fish_from_the_side(pen: Pen) -> None:
    x, y = pen.x, pen.y
    wag = pen.sway(4.0, WAGS)
    pen.add("shade", polygon(x, y, (-19, -7.5 + wag), (-9, 0), (-19, 7.5 + wag)) - 0.6)
    pen.add("shade", polygon(x, y, (-5, -8), (0, -12.5), (5, -7)) - 0.6)
    pen.add("body", ellipse(x, y, 2.5, 0, 15, 9.6))
    pen.add("white", ellipse(x, y, -1.6, 0, 2.3, 8.8))
    pen.add("shade", polygon(x, y, (-1, 3), (4, 2), (1, 8.5 + 0.4 * wag)) - 0.8)
    pen.eye(10.4, -2.6, 3.4, (0.8, 0))


def _fish_from_the_front(pen: Pen) -> None:
    x, y = pen.x, pen.y
    wag = pen.sway(4.0, WAGS, CLOSING)
    pen.add("shade", polygon(x, y, (-3.4, -8), (0, -15), (3.4, -8)) - 0.8)
    for side in (-1, 1):
        fin: list[Point] = [(8.0, 2.0), (15.6, -2 + wag), (15.6, 5.5 + wag)]
        pen.add("shade", polygon(side * x, y, *fin) - 0.8)
    pen.add("body", ellipse(x, y, 0, 1, 10.6, 11.2))
    pen.add("light", ellipse(x, y, 0, 7.2, 6, 4.2))
    for side in (-1, 1):
        pen.eye(side * 5, -2, 3.8)
    pen.add("ink", ellipse(x, y, 0, 5.4, 2.6, 1.8))
