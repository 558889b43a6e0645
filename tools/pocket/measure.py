"""What a picture shows: colour, shape, heading, style and position of the sprite, read from pixels.

Analysis by synthesis: the border tells the background, the rest is compared with a picture of every concept put at
the same place. The nearest one is the reading, and how far it is off tells whether there was a sprite at all.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from .world import CONCEPTS, HEADINGS, SIZE, STYLES, Concept, Scene, render

BORDER = 2  # pixels; no sprite comes so near to the edge
FOREGROUND = 0.12  # a channel's distance from the background that is more than noise
FEWEST_PIXELS = 60  # the smallest sprite, a cross, has about 200
LARGEST_ERROR = 0.10  # root mean square over the sprite's neighbourhood; a wrong nose alone makes about 0.2
NEIGHBOURHOOD = 16  # pixels around the sprite's middle where pictures are compared
OFFSETS = tuple((0.5 * dx, 0.5 * dy) for dx in range(-2, 3) for dy in range(-2, 3))


@dataclass(frozen=True)
class Reading:
    """What one picture shows; `error` is its distance from a perfect picture of that, `found` whether that is near."""

    concept: Concept
    style: str
    x: float
    y: float
    error: float

    @property
    def found(self) -> bool:
        """Whether the picture shows a sprite as the world has it."""
        return self.error <= LARGEST_ERROR

    def shows(self, concept: Concept, style: str | None = None) -> bool:
        """Whether everything that the caption says is right (and the style, if one is asked for)."""
        return self.found and self.concept == concept and style in (None, self.style)


@dataclass(frozen=True)
class Track:
    """How the sprite moves in a clip.

    Attributes:
        readings: one per frame.
        displacement: way from the first to the last frame along the heading, in pixels; a sprite that should stand
            still: how far it gets from where it began.
        monotone: share of the steps that go along the heading.
        change: mean absolute difference of neighbouring frames.
    """

    readings: tuple[Reading, ...]
    displacement: float
    monotone: float
    change: float

    def share(self, concept: Concept, style: str | None = None) -> float:
        """Share of the frames that show a concept."""
        return sum(each.shows(concept, style) for each in self.readings) / len(self.readings)


def track(frames: Tensor, heading: str) -> Track:
    """Follow the sprite through a clip, f c h w, that should go into a heading."""
    readings = tuple(read(frame) for frame in frames)
    across, down = HEADINGS[heading]
    if heading == "still":
        way = [math.hypot(each.x - readings[0].x, each.y - readings[0].y) for each in readings]
    else:
        way = [(each.x - readings[0].x) * across + (each.y - readings[0].y) * down for each in readings]
    steps = [later - earlier for earlier, later in itertools.pairwise(way)]
    return Track(
        readings=readings,
        displacement=max(way) if heading == "still" else way[-1],
        monotone=sum(step > 0 for step in steps) / len(steps),
        change=float((frames[1:] - frames[:-1]).abs().mean()),
    )


def read(picture: Tensor) -> Reading:
    """What a picture, c h w from 0 to 1, shows."""
    picture = picture.detach().float().clamp(0, 1)
    style = _style(picture)
    place = middle(picture, style)
    if place is None:
        return Reading(CONCEPTS[0], style, math.nan, math.nan, math.inf)
    guesses = [
        (concept, place[0] - dx, place[1] - dy)
        for concept, (dx, dy) in zip(CONCEPTS, _centroid_offsets(style), strict=True)
    ]
    concept, x, y = guesses[int(_errors(picture, guesses, style).argmin())]
    places = [(concept, x + dx, y + dy) for dx, dy in OFFSETS]
    errors = _errors(picture, places, style)
    best = int(errors.argmin())
    return Reading(concept, style, *places[best][1:], float(errors[best]))


def _style(picture: Tensor) -> str:
    """The style whose background is nearest to the picture's border."""
    edge = torch.ones(picture.shape[1:], dtype=torch.bool)
    edge[BORDER:-BORDER, BORDER:-BORDER] = False
    shown = picture[:, edge].median(dim=1).values
    distances = {name: torch.dist(torch.tensor(style.background), shown).item() for name, style in STYLES.items()}
    return min(distances, key=lambda name: distances[name])


def middle(picture: Tensor, style: str) -> tuple[float, float] | None:
    """Middle of what is not background, or None if there is too little of it."""
    plain = torch.tensor(STYLES[style].background)[:, None, None]
    weight = ((picture - plain).abs().amax(dim=0) / FOREGROUND - 1).clamp(0, 1)
    total = float(weight.sum())
    if total < FEWEST_PIXELS:
        return None
    pixels = torch.arange(picture.shape[-1]) + 0.5
    return float((weight.sum(dim=0) * pixels).sum()) / total, float((weight.sum(dim=1) * pixels).sum()) / total


@cache
def _centroid_offsets(style: str) -> tuple[tuple[float, float], ...]:
    """How far each concept's centroid lies from the sprite's middle (the nose pulls it)."""
    half = SIZE / 2
    pictures = _pictures([(concept, half, half) for concept in CONCEPTS], style)
    found = (middle(picture, style) for picture in pictures)
    return tuple((place[0] - half, place[1] - half) for place in found if place)


def _pictures(placed: Sequence[tuple[Concept, float, float]], style: str) -> Tensor:
    scenes = [Scene(*concept, style, x, y, 0.0) for concept, x, y in placed]
    return render(scenes, [(x, y) for _, x, y in placed])


def _errors(picture: Tensor, placed: Sequence[tuple[Concept, float, float]], style: str) -> Tensor:
    """Root mean square distance of a picture from each placed concept, around the first one's place."""
    _, x, y = placed[0]
    left, top = (min(max(int(value) - NEIGHBOURHOOD, 0), SIZE - 2 * NEIGHBOURHOOD) for value in (x, y))
    window = (..., slice(top, top + 2 * NEIGHBOURHOOD), slice(left, left + 2 * NEIGHBOURHOOD))
    difference = _pictures(placed, style)[window] - picture[window]
    return difference.square().mean(dim=(1, 2, 3)).sqrt()
