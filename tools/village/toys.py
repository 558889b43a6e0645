"""Balloon and ball: one sways with its basket, the other turns and is squeezed; both look where they go."""

from __future__ import annotations

import numpy as np

from .figure import Pen
from .shapes import box, circle, ellipse, polygon, turned

LOOK: dict[str, tuple[float, float]] = {"side": (1, 0), "away": (0, -1), "toward": (0, 1), "front": (0, 0)}
LEAN = 13.0  # degrees that a balloon leans ahead


def balloon(pen: Pen, pose: str) -> None:
    """A hot air balloon with a face; it leans ahead, its fire burns when it rises."""
    tilt = LEAN if pose == "side" else 0
    sway = [float(each) for each in pen.sway(3.0, 1)[:, 0, 0]]
    pen = pen.turned([tilt + each for each in sway])
    x, y = pen.x, pen.y
    for side in (-1, 1):
        pen.limb("wood", (side * 5, 5), (side * 3, 13), 0.8)
    if pose != "toward":
        pen.add("beak", ellipse(x, y, 0, 9, 2.4, 3.4 + pen.sway(0.9, 3)))
    pen.add("body", circle(x, y, 0, -5.5, 12.6))
    pen.add("body", polygon(x, y, (-9.5, 2), (9.5, 2), (4.6, 8), (-4.6, 8)))
    outer, inner = (ellipse(x, y, 0, -5.5, width, 12.6) for width in (8.4, 5.0))
    pen.add("shade", np.maximum(outer, -inner))
    across, down = LOOK[pose]
    for side in (-1, 1):
        pen.eye(across * 5.4 + side * 4.1, -6 + down * 6.2, 3.7, (across, down))
    pen.add("wood", box(x, y, 0, 15, 4.4, 3.2, 1.2))


def ball(pen: Pen, pose: str) -> None:
    """A ball with a face that looks ahead, and halves that turn, or rock where it stays."""
    pen.shadow(14.5, 10)
    x, y = pen.x, pen.y
    whole = circle(x, y, 0, 0, 13.4)
    pen.add("body", whole)
    rocked = [float(each) for each in pen.sway(35.0, 1)[:, 0, 0]]
    bx, by = turned(x, y, rocked if pose == "front" else pen.degrees(1))
    pen.add("shade", np.maximum(whole, ellipse(bx, by, 0, 10, 14, 7.5)))
    pen.add("light", np.maximum(whole, ellipse(bx, by, 0, -11, 14, 6)))
    across, down = LOOK[pose]
    for side in (-1, 1):
        pen.eye(across * 5.6 + side * 4.3, -0.5 + down * 6.2, 4.1, (across, down))
