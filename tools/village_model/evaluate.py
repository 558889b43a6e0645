"""Clips of the model, measured: does what the caption names move as the caption says?"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lib_animatediff.hosts.diffusers.animate import animate
from motion_module import MotionModule
from tools.pocket.evaluate import SEEDS_APART, paint_batch, to_tensor
from tools.pocket.gates import GATE_SEED
from tools.pocket.sampling import CFG, STEPS
from tools.village.board import UNITS
from tools.village.scene import CLOSED, FRAMES, HEADINGS, TRAVEL, Scene
from tools.village.words import caption

from .measure import Track, track
from .probe import Judge
from .recipe import SIZE

CLOSED_SEAM = 1.5  # a closed motion's last frame is at most so many usual changes from its first

Make = Callable[[Scene, int], Tensor]  # a scene whose caption counts, and a seed, to frames, f c h w from 0 to 1


@dataclass(frozen=True)
class Score:
    """Means over clips.

    Attributes:
        name: of what made the clips.
        clips: how many.
        motion: share of the clips whose subject moves, or stands, as the caption says.
        displacement: way along the heading, as a share of the world's; straight motions only.
        monotone: share of the steps between frames that go along the heading; straight motions only.
        change: mean absolute difference of neighbouring frames, of 1.
        closed: share of the closed motions whose last frame is near to the first.
        subject: share of the frames that show subject and colour of the caption.
        scenery: share of the frames that show its scenery.
        style: share of the frames in the style asked for.
    """

    name: str
    clips: int
    motion: float
    displacement: float
    monotone: float
    change: float
    closed: float
    subject: float
    scenery: float
    style: float


def score(name: str, make: Make, judge: Judge, scenes: Sequence[Scene], style: str = "plain") -> Score:
    """Make a clip of each scene's caption and measure it."""
    found = [
        (each, track(judge, make(each, GATE_SEED + number * SEEDS_APART)))
        for number, each in enumerate(tqdm(scenes, desc=name, disable=None))
    ]
    straight = [(each.motion, path) for each, path in found if each.motion in HEADINGS]
    return Score(
        name,
        len(found),
        motion=mean(path.motion == each.motion for each, path in found),
        displacement=mean(path.displacement(heading) / (TRAVEL / UNITS) for heading, path in straight),
        monotone=mean(path.monotone(heading) for heading, path in straight),
        change=mean(path.change for _, path in found),
        closed=mean(path.seam <= CLOSED_SEAM for each, path in found if each.motion in CLOSED),
        subject=mean(shows_subject(each, path) for each, path in found),
        scenery=mean(path.share("scenery", each.scenery) for each, path in found),
        style=mean(path.share("style", style) for _, path in found),
    )


def shows_subject(wanted: Scene, path: Track) -> float:
    """Share of the frames that show subject and colour of a scene."""
    return mean(reading.shows(wanted, ("subject", "colour")) for reading in path.readings)


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; nan of nothing."""
    listed = [float(value) for value in values]
    return sum(listed) / len(listed) if listed else float("nan")


def plain_caption(shown: Scene) -> str:
    """A scene's caption without synonyms."""
    return caption(shown.concepts)


def animated(pipeline: Any, motion: MotionModule, prompt: Callable[[Scene], str] = plain_caption, **more: Any) -> Make:
    """Clips of a diffusers pipeline with a motion module."""

    def make(shown: Scene, seed: int) -> Tensor:
        asked: dict[str, Any] = {"frames": FRAMES, "size": (SIZE, SIZE), "steps": STEPS, "cfg": CFG} | more
        pictures = animate(pipeline, motion, prompt=prompt(shown), seed=seed, **asked)
        return torch.stack([to_tensor(each) for each in pictures])

    return make


def independent(pipeline: Any) -> Make:
    """A batch of pictures with the seeds that a clip would have."""
    return lambda shown, seed: paint_batch(pipeline, caption(shown.concepts), seed, SIZE, FRAMES)
