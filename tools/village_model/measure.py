"""How the subject of a clip moves: its path, found by the judge, beside the paths that the world knows."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from tools.village.board import UNITS
from tools.village.scene import CLOSED, FRAMES, HEADINGS, PHASES, offset
from tools.village.words import MOTIONS

from .probe import Judge, Reading

STRAIGHT_SHARES = (0.6, 0.8, 1.0, 1.2)  # of the usual way, that a path along a heading may have
CLOSED_SHARES = (0.5, 0.75, 1.0, 1.2)
STANDING_WAY = 0.05  # of the picture: a subject that stays this near to its middle stands


@dataclass(frozen=True)
class Track:
    """How the subject moves in a clip.

    Attributes:
        readings: one per frame.
        path: the subject's middle in each frame, f 2, as a share of the picture.
        motion: which of the world's motions the path is nearest to.
        change: mean absolute difference of neighbouring frames.
        seam: that of the last and the first, in usual changes.
    """

    readings: list[Reading]
    path: Tensor
    motion: str
    change: float
    seam: float

    def displacement(self, heading: str) -> float:
        """Way from the first to the last frame along a heading, in shares of the picture."""
        return float((self.path[-1] - self.path[0]) @ torch.tensor(HEADINGS[heading], dtype=self.path.dtype))

    def monotone(self, heading: str) -> float:
        """Share of the steps between frames that go along a heading."""
        steps = (self.path[1:] - self.path[:-1]) @ torch.tensor(HEADINGS[heading], dtype=self.path.dtype)
        return float((steps > 0).float().mean())

    def share(self, field: str, concept: str) -> float:
        """Share of the frames that show a concept."""
        return sum(each.concepts[field] == concept for each in self.readings) / len(self.readings)


def track(judge: Judge, frames: Tensor) -> Track:
    """Follow the subject through a clip, f c h w."""
    readings = judge(frames)
    path = torch.tensor([[each.x, each.y] for each in readings])
    changes = [float((b - a).abs().mean()) for a, b in itertools.pairwise(frames)]
    usual = max(sum(changes) / len(changes), 1e-6)
    return Track(readings, path, nearest_motion(path), usual, float((frames[-1] - frames[0]).abs().mean()) / usual)


def nearest_motion(path: Tensor) -> str:
    """Which of the world's motions a path, f 2, is nearest to, wherever it lies."""
    way = path - path.mean(dim=0)
    if float(way.norm(dim=1).max()) < STANDING_WAY:
        return "standing"
    names, templates = _templates(len(path))
    distances = (templates - way).square().sum(dim=(1, 2))
    return names[int(distances.argmin())]


@cache
def _templates(frames: int) -> tuple[tuple[str, ...], Tensor]:
    """The paths of every motion, of several sizes and phases, each around its own mean, n f 2."""
    names, paths = [], []
    for motion in MOTIONS:
        if motion == "standing":
            continue
        shares = CLOSED_SHARES if motion in CLOSED else STRAIGHT_SHARES
        for share, phase in itertools.product(shares, PHASES[motion]):
            places = [offset(motion, phase + f / FRAMES, f / (FRAMES - 1)) for f in range(frames)]
            path = torch.tensor(places) * share / UNITS
            names.append(motion)
            paths.append(path - path.mean(dim=0))
    return tuple(names), torch.stack(paths)
