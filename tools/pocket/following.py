"""Sprites on paths that someone drew: clips with the pocket model's ControlNet, and how far they are from the path."""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.video import write_gif
from lib_animatediff.video.source import Source
from motion_module import MotionModule, load_motion_module

from .evaluate import SEEDS_APART, mean, to_tensor
from .gates import GATE_SEED
from .measure import read
from .pictures import grid, to_bytes
from .report import pipeline_of
from .sampling import CFG, STEPS
from .showcase import FPS
from .world import FRAMES, HEADINGS, MARGIN_AHEAD, SIZE, Concept, caption

MARK_RADIUS = 5.0  # pixels
LINE_RADIUS = 1.0
PATHS = 24
LET_GO = "0: 1, 7: 1, 8: 0"  # a weight that is 0 in the second half
SHOWN = (18, 17, 16, 15)
SHOWN_SEED = 7
COLOURED = (("red", "disc"), ("green", "square"), ("blue", "disc"), ("yellow", "cross"))  # in turn

Place = tuple[float, float]


def marks(places: Sequence[Place], radius: float = MARK_RADIUS) -> Tensor:
    """Hints with a white mark on black at each place, n 3 h w from 0 to 1."""
    pixels, place = torch.arange(SIZE) + 0.5, torch.tensor(places)
    away = torch.hypot(pixels[None, None, :] - place[:, 0, None, None], pixels[None, :, None] - place[:, 1, None, None])
    return (radius + 0.5 - away).clamp(0, 1)[:, None].expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class Drawn:
    """A path that someone drew, and a caption that fits.

    Attributes:
        places: of the sprite in each frame, in pixels.
        concept: what goes along it.
    """

    places: list[Place]
    concept: Concept


def drawn(number: int) -> Drawn:
    """One of an endless list of curves through the picture: a quadratic Bezier curve between three places."""
    rng = random.Random(f"drawn/{number}")
    low, high = MARGIN_AHEAD, SIZE - MARGIN_AHEAD
    start, bend, end = ([rng.uniform(low, high), rng.uniform(low, high)] for _ in range(3))
    places = []
    for frame in range(FRAMES):
        t = frame / (FRAMES - 1)
        shares = ((1 - t) ** 2, 2 * t * (1 - t), t**2)
        x, y = (sum(share * p[axis] for share, p in zip(shares, (start, bend, end), strict=True)) for axis in (0, 1))
        places.append((x, y))
    way = end[0] - start[0], end[1] - start[1]
    heading = max(HEADINGS, key=lambda name: sum(a * b for a, b in zip(HEADINGS[name], way, strict=True)))
    return Drawn(places, (*COLOURED[number % len(COLOURED)], heading))


def follow(
    pipeline: Any, motion: MotionModule, control: Path | None, line: Drawn, seed: int, weight: str = "1"
) -> tuple[Tensor, list[float]]:
    """A clip of a path: its frames f c h w, and how far the sprite is from the path in each, in pixels.

    Args:
        control: the ControlNet; None: nothing steers the clip.
        weight: of the ControlNet over the frames.
    """
    with tempfile.TemporaryDirectory() as folder:
        units = []
        if control is not None:
            for number, hint in enumerate(to_bytes(marks(line.places))):
                Image.fromarray(hint.permute(1, 2, 0).contiguous().numpy()).save(Path(folder) / f"{number:02}.png")
            units = [ControlUnit(control, Source(Path(folder)), weight=weight)]
        pictures = animate(
            pipeline,
            motion,
            prompt=caption(line.concept),
            seed=seed,
            frames=FRAMES,
            controls=units,
            size=(SIZE, SIZE),
            steps=STEPS,
            cfg=CFG,
        )
    frames = torch.stack([to_tensor(picture) for picture in pictures])
    readings = [read(frame) for frame in frames]
    away = [math.hypot(each.x - x, each.y - y) for each, (x, y) in zip(readings, line.places, strict=True)]
    return frames, away


Make = Callable[[Drawn, int], tuple[Tensor, list[float]]]


def distances(make: Make, clips: int = PATHS) -> list[float]:
    """Mean distance from the path, in pixels, of each of some clips; a frame without a sprite counts a whole side."""
    found = []
    for number in range(clips):
        _, away = make(drawn(number), _seed(number))
        found.append(mean(map(_known, away)))
    return found


def measure_paths(folder: Path) -> Iterator[str]:
    """Rows of a table: the mean distance from the path with the ControlNet, without it, and where it lets go."""
    pipeline, motion = pipeline_of(folder / POCKET.checkpoint), load_motion_module(folder / POCKET.motion)
    control, half = folder / POCKET.control, FRAMES // 2

    def led(weight: str) -> list[list[float]]:
        return [follow(pipeline, motion, control, drawn(n), _seed(n), weight)[1] for n in range(PATHS)]

    free = [follow(pipeline, motion, None, drawn(n), _seed(n))[1] for n in range(PATHS)]
    yield f"| {PATHS} clips of {FRAMES} frames | first half, pixels | second half, pixels |"
    yield "|---|---|---|"
    for name, found in (("weight 1", led("1")), (f"weight {LET_GO}", led(LET_GO)), ("without", free)):
        first, second = (mean(_known(away) for clip in found for away in clip[part]) for part in _halves(half))
        yield f"| {name} | {first:.1f} | {second:.1f} |"


def write_picture(folder: Path, path: Path) -> None:
    """Columns: some paths. Rows: the path with the mark of each frame, and the clip."""
    pipeline, motion = pipeline_of(folder / POCKET.checkpoint), load_motion_module(folder / POCKET.motion)
    columns = []
    for number in SHOWN:
        line = drawn(number)
        frames, _ = follow(pipeline, motion, folder / POCKET.control, line, SHOWN_SEED)
        way = marks(line.places, LINE_RADIUS).amax(0, keepdim=True) * 0.5
        columns.append(torch.stack([torch.maximum(way, marks(line.places)), frames]))  # 2 f c h w
    rows = torch.stack(columns, 1)
    write_gif(path, [grid(rows[:, :, frame], zoom=2) for frame in range(FRAMES)], fps=FPS)


def _seed(number: int) -> int:
    return GATE_SEED + number * SEEDS_APART


def _known(away: float) -> float:
    return away if math.isfinite(away) else SIZE


def _halves(half: int) -> tuple[slice, slice]:
    return slice(0, half), slice(half, None)
