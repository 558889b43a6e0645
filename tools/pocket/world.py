"""The pocket model's world: one sprite with a heading, travelling over a plain background.

Everything is a pure function of a `Scene`, and every scene is a pure function of a seed and a number, so the same
frames come out on every machine. A black nose on the leading side makes a still *show* its heading: a motion module
sees no text, so the word must be readable from the picture's features (it is in the middle of a sprite that stands).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SIZE = 64
FRAMES = 16
TRAVEL = (26.0, 32.0)  # pixels over a clip

RGB = tuple[float, float, float]

COLOURS: dict[str, RGB] = {
    "red": (0.85, 0.13, 0.13),
    "green": (0.13, 0.62, 0.22),
    "blue": (0.15, 0.30, 0.88),
    "yellow": (0.92, 0.72, 0.05),
}
SHAPES = ("disc", "square", "cross")
HEADINGS: dict[str, tuple[float, float]] = {
    "left": (-1.0, 0.0),
    "right": (1.0, 0.0),
    "up": (0.0, -1.0),
    "down": (0.0, 1.0),
    "still": (0.0, 0.0),
}

DISC_RADIUS = 8.5
SQUARE_HALF = 7.5
CROSS_ARM, CROSS_HALF = 9.5, 3.4
NOSE_RADIUS, NOSE_DISTANCE = 4.2, 9.0
NOSE: RGB = (0.03, 0.03, 0.03)
MARGIN_AHEAD = 16.0  # nose and outline
MARGIN_BEHIND = 12.0


@dataclass(frozen=True)
class Style:
    """A look of the world.

    Attributes:
        background: its plain colour.
        outline: width in pixels of the rim around sprite and nose.
        rim: the rim's colour.
    """

    background: RGB
    outline: float = 0.0
    rim: RGB = (1.0, 1.0, 1.0)


# The base model knows "plain", the personalised models "lilac". It differs plainly, and yet leaves colours, shapes and
# the nose as they are: a style that hides the heading would take from the motion module what it reads. "dusk" only
# stretches what the VAE's encoder knows, so that lilac lies inside of it (see `recipe.DecoderRecipe`).
STYLES: dict[str, Style] = {
    "plain": Style(background=(0.97, 0.94, 0.84)),
    "dusk": Style(background=(0.26, 0.31, 0.52), outline=1.6, rim=(0.96, 0.96, 0.88)),
    "lilac": Style(background=(0.70, 0.65, 0.80), outline=1.6, rim=(0.96, 0.96, 0.88)),
}

Concept = tuple[str, str, str]
CONCEPTS: tuple[Concept, ...] = tuple(itertools.product(COLOURS, SHAPES, HEADINGS))
# Never trained on, so that they show whether the words combine.
HELD_OUT: tuple[Concept, ...] = (
    ("red", "cross", "up"),
    ("green", "disc", "left"),
    ("blue", "square", "right"),
    ("yellow", "disc", "down"),
    ("blue", "cross", "still"),
)
TRAINED: tuple[Concept, ...] = tuple(concept for concept in CONCEPTS if concept not in HELD_OUT)


@dataclass(frozen=True)
class Scene:
    """One clip: what moves, over what, from where and how far. Positions are of the sprite's middle, in pixels."""

    colour: str
    shape: str
    heading: str
    style: str
    x: float
    y: float
    travel: float

    @property
    def concept(self) -> Concept:
        """What the caption says."""
        return self.colour, self.shape, self.heading


def caption(concept: Concept) -> str:
    """The text of a concept: "a red disc moving left", "a red disc standing still"."""
    colour, shape, heading = concept
    return f"a {colour} {shape} {'standing' if heading == 'still' else 'moving'} {heading}"


def scene(seed: int, number: int, style: str = "plain", concepts: Sequence[Concept] = TRAINED) -> Scene:
    """Scene `number` of a seed's endless list; each one is drawn by itself, so the order of asking does not matter."""
    rng = random.Random(f"{seed}/{style}/{number}")
    colour, shape, heading = rng.choice(concepts)
    travel = 0.0 if heading == "still" else rng.uniform(*TRAVEL)
    ahead = HEADINGS[heading]
    x, y = (_start(rng, direction, travel) for direction in ahead)
    return Scene(colour, shape, heading, style, x, y, travel)


def _start(rng: random.Random, direction: float, travel: float) -> float:
    """Where to start on one axis so that the sprite stays inside the picture."""
    low, high = MARGIN_BEHIND, SIZE - MARGIN_BEHIND
    if direction:
        high = SIZE - MARGIN_AHEAD - travel
    start = rng.uniform(low, high)
    return SIZE - start if direction < 0 else start


def path(scene: Scene) -> list[tuple[float, float]]:
    """The sprite's position in each frame of the clip."""
    across, down = HEADINGS[scene.heading]
    steps = [scene.travel * frame / (FRAMES - 1) for frame in range(FRAMES)]
    return [(scene.x + across * step, scene.y + down * step) for step in steps]


def clip(scene: Scene) -> Tensor:
    """The frames of a scene, f c h w, 0 to 1."""
    return render([scene] * FRAMES, path(scene))


def still(scene: Scene, frame: int) -> Tensor:
    """One frame of a scene, c h w, 0 to 1."""
    return render([scene], [path(scene)[frame]])[0]


def render(scenes: Sequence[Scene], positions: Sequence[tuple[float, float]], size: int = SIZE) -> Tensor:
    """Pictures of scenes with the sprite put at given positions, n c h w, 0 to 1."""
    pixels = torch.arange(size) + 0.5
    place = torch.tensor(positions)
    x = pixels[None, None, :] - place[:, 0, None, None]
    y = pixels[None, :, None] - place[:, 1, None, None]
    return paint(scenes, x, y)


def paint(scenes: Sequence[Scene], x: Tensor, y: Tensor, scale: Tensor | float = 1.0) -> Tensor:
    """Pictures of scenes, n c h w from 0 to 1, by where each pixel lies in the world.

    Args:
        scenes: n of them.
        x, y: from the sprite's middle, in the world's pixels; broadcast to n h w.
        scale: pixels of the picture in a pixel of the world, likewise.
    """
    ahead = torch.tensor([HEADINGS[each.heading] for each in scenes])
    body = _body(x, y, torch.tensor([SHAPES.index(each.shape) for each in scenes]))
    nose = (
        torch.hypot(x - NOSE_DISTANCE * ahead[:, 0, None, None], y - NOSE_DISTANCE * ahead[:, 1, None, None])
        - NOSE_RADIUS
    )
    styles = [STYLES[each.style] for each in scenes]
    outline = torch.tensor([style.outline for style in styles])[:, None, None]
    rim = _cover((torch.minimum(body, nose) - outline) * scale) * (outline > 0)
    picture = _colour([style.background for style in styles])
    layers = ((rim, [style.rim for style in styles]), (_cover(body * scale), [COLOURS[each.colour] for each in scenes]))
    for cover, colours in (*layers, (_cover(nose * scale), [NOSE] * len(scenes))):
        picture = torch.lerp(picture, _colour(colours), cover[:, None])
    return picture


def _colour(colours: Sequence[RGB]) -> Tensor:
    return torch.tensor(colours)[:, :, None, None]


def _cover(distance: Tensor) -> Tensor:
    """How much of a pixel lies inside an edge at a signed distance (below 0: inside): the anti-aliasing."""
    return (0.5 - distance).clamp(0, 1)


def _body(x: Tensor, y: Tensor, shape: Tensor) -> Tensor:
    """Signed distance in pixels to the sprite's edge, n h w."""
    disc = torch.hypot(x, y) - DISC_RADIUS
    square = _box(x, y, SQUARE_HALF, SQUARE_HALF)
    cross = torch.minimum(_box(x, y, CROSS_ARM, CROSS_HALF), _box(x, y, CROSS_HALF, CROSS_ARM))
    chosen = shape[:, None, None]
    return torch.where(chosen == 0, disc, torch.where(chosen == 1, square, cross))


def _box(x: Tensor, y: Tensor, half_width: float, half_height: float) -> Tensor:
    """Signed distance to a rectangle around the origin."""
    right, below = x.abs() - half_width, y.abs() - half_height
    return torch.hypot(right.clamp(min=0), below.clamp(min=0)) + torch.maximum(right, below).clamp(max=0)
