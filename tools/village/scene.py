"""A scene: what a clip shows, said in seven words and a few numbers; where its subject is in each frame.

Every scene is a pure function of a seed and a number. Positions are in units (`board.UNITS` across a picture).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

from .board import UNITS
from .words import COLOURS, MOTIONS, SCENERIES, SUBJECTS, TABLES

FRAMES = 16
TRAVEL = 0.35 * UNITS  # of a straight motion, over a clip
PAN = 0.18 * UNITS  # of the nearest layer, over a clip at strength 1
ZOOM = 0.3  # the nearest layer's growth
NEAREST = 1.0  # depth of the subject and of the ground below it
VANISHING_POINT = (UNITS / 2, 44.0)  # what stays where it is under a zoom

HEADINGS: dict[str, tuple[float, float]] = {"left": (-1, 0), "right": (1, 0), "up": (0, -1), "down": (0, 1)}
CLOSED = ("circling", "swinging", "bouncing")
CIRCLE_RADIUS = 17.0
ROPE, SWING_DEGREES = 46.0, 26.0
BOUNCE = 24.0
GROUNDED = ("walker", "car", "ball")  # these go on the ground, the others above it
MARGIN = 22.0  # half of the largest subject of size 1
SIZES = (0.88, 1.0)
ATTEMPTS = 1000  # to find a place whence the subject stays in the picture
SEAM = (0.93, 1.07)  # of the usual step

CAMERA_MOVES: dict[str, tuple[float, float]] = {  # pan and zoom; a camera that turns left sees all drift to the right
    "none": (0, 0),
    "pan left": (-1, 0),
    "pan right": (1, 0),
    "zoom in": (0, 1),
}
# The time of day and the weather that most scenes have.
USUAL = {"time": (("day", 0.7), ("night", 0.3)), "weather": (("clear", 0.6), ("rain", 0.2), ("snow", 0.2))}

Concept = tuple[str, str, str]  # subject, colour, motion
CONCEPTS: tuple[Concept, ...] = tuple(itertools.product(SUBJECTS, COLOURS, MOTIONS))


def _held_out(concept: Concept) -> bool:
    """A share of one in ten, spread like a Latin square so that each word and nearly each pair is trained."""
    subject, colour, motion = (list(t).index(c) for t, c in zip((SUBJECTS, COLOURS, MOTIONS), concept, strict=True))
    return (3 * subject + 2 * colour + motion + motion // 4) % 10 == 7


# Never trained on, so that they show whether the words combine.
HELD_OUT: tuple[Concept, ...] = tuple(filter(_held_out, CONCEPTS))
TRAINED: tuple[Concept, ...] = tuple(concept for concept in CONCEPTS if concept not in HELD_OUT)


@dataclass(frozen=True)
class Camera:
    """What the camera does during the clip: a name of `CAMERA_MOVES`, and how much of it."""

    move: str = "none"
    strength: float = 1.0

    @property
    def still(self) -> bool:
        return self.move == "none" or self.strength == 0

    def scale(self, depth: float, time: float) -> float:
        """How large a layer looks at a share of the clip."""
        return 1 + CAMERA_MOVES[self.move][1] * self.strength * ZOOM * depth * time

    def shift(self, depth: float, time: float) -> float:
        """How far to the right a layer has drifted."""
        return -CAMERA_MOVES[self.move][0] * self.strength * PAN * depth * time

    def seen(self, x: float, y: float, time: float, depth: float = NEAREST) -> tuple[float, float]:
        """Where a point of the world is in the picture."""
        scale, (cx, cy) = self.scale(depth, time), VANISHING_POINT
        return cx + (x + self.shift(depth, time) - cx) * scale, cy + (y - cy) * scale


STILL = Camera()


@dataclass(frozen=True)
class Scene:
    """One clip.

    Attributes:
        x, y: where a straight motion begins; the middle of a circle, the rope's lower end at rest, the landing.
        size: of the subject, 1 is usual.
        phase: where a closed motion begins, in turns.
        view: which part of the scenery is seen, in units.
    """

    subject: str
    colour: str
    motion: str
    scenery: str
    time: str
    weather: str
    style: str = "plain"
    x: float = UNITS / 2
    y: float = UNITS / 2
    size: float = 1.0
    phase: float = 0.0
    view: float = 0.0
    camera: Camera = STILL

    def __post_init__(self) -> None:
        for field in TABLES:
            if getattr(self, field) not in TABLES[field]:
                raise ValueError(f"{getattr(self, field)!r} is no {field}; choose from {', '.join(TABLES[field])}.")

    @property
    def concepts(self) -> dict[str, str]:
        """What a caption says: subject, colour, motion, scenery, time, weather, style."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name in TABLES}


def scene(
    seed: int,
    number: int,
    concepts: Sequence[Concept] = TRAINED,
    camera: Camera = STILL,
    **fixed: str,
) -> Scene:
    """Scene `number` of a seed's endless list; each is drawn by itself, so the order of asking does not matter.

    Args:
        seed: of the list.
        number: in the list.
        concepts: subjects, colours and motions to choose from.
        camera: what it does.
        fixed: concepts that are not left to chance: `scenery="town"`, `style="ink"`.
    """
    rng = random.Random(f"village/{seed}/{number}")
    named = ("subject", "colour", "motion")
    fitting = [c for c in concepts if all(fixed.get(f, w) == w for f, w in zip(named, c, strict=True))]
    if not fitting:
        raise ValueError(f"No combination to choose from has {fixed}.")
    subject, colour, motion = rng.choice(fitting)
    chosen = {
        "subject": subject,
        "colour": colour,
        "motion": motion,
        "scenery": rng.choice(list(SCENERIES)),
        **{field: _weighted(rng, choices) for field, choices in USUAL.items()},
        **fixed,
    }
    view = rng.uniform(0, 960)
    for _ in range(ATTEMPTS):
        x, y = _start(rng, subject, motion)
        size, phase = rng.uniform(*SIZES), rng.choice(PHASES[motion])
        drawn = Scene(**chosen, x=x, y=y, size=size, phase=phase, view=view, camera=camera)
        if all(_inside(drawn, frame, place) for frame, place in enumerate(path(drawn))):
            return drawn
    raise ValueError(f"A {subject} {motion} does not stay in the picture under {camera}.")


def _weighted(rng: random.Random, choices: Sequence[tuple[str, float]]) -> str:
    point = rng.random()
    for name, share in choices:
        point -= share
        if point < 0:
            return name
    return choices[-1][0]


def _start(rng: random.Random, subject: str, motion: str) -> tuple[float, float]:
    """A place to begin that may suit; where the whole path leads decides."""
    x = rng.uniform(18, UNITS - 18)
    if motion == "circling":
        return x, rng.uniform(40, 58)
    if motion == "swinging":
        return x, rng.uniform(50, 62)
    if motion == "bouncing":
        return x, rng.uniform(56, 69)
    if motion in ("up", "down"):
        return x, rng.uniform(MARGIN, UNITS - MARGIN)
    return x, rng.uniform(56, 75) if subject in GROUNDED else rng.uniform(28, 62)


def _inside(scene: Scene, frame: int, place: tuple[float, float]) -> bool:
    margin = MARGIN * scene.size * scene.camera.scale(NEAREST, moment(frame))
    return all(margin <= along <= UNITS - margin for along in place)


def moment(frame: float) -> float:
    """The share of the clip that has passed."""
    return frame / (FRAMES - 1)


def turn(scene: Scene, frame: float) -> float:
    """The phase of a closed motion, in turns: one turn takes all frames and one more step."""
    return scene.phase + frame / FRAMES


def offset(motion: str, turns: float, time: float) -> tuple[float, float]:
    """Where a subject is, from where the scene says."""
    if motion in HEADINGS:
        across, down = HEADINGS[motion]
        return across * TRAVEL * time, down * TRAVEL * time
    angle = math.tau * turns
    if motion == "circling":
        return CIRCLE_RADIUS * math.cos(angle), CIRCLE_RADIUS * math.sin(angle)
    if motion == "swinging":
        swing = math.radians(swing_degrees(turns))
        return ROPE * math.sin(swing), ROPE * (math.cos(swing) - 1)
    if motion == "bouncing":
        return 0.0, -BOUNCE * height(turns)
    return 0.0, 0.0


def swing_degrees(turns: float) -> float:
    """How far the rope is from hanging down, to the right."""
    return SWING_DEGREES * math.sin(math.tau * turns)


def height(turns: float) -> float:
    """How high a bounce is, 0 on the ground, 1 at the top."""
    u = turns % 1
    return 4 * u * (1 - u)


def path(scene: Scene, frames: Sequence[float] = range(FRAMES)) -> list[tuple[float, float]]:
    """The subject's centre in frames of the clip, as the camera sees it, in units."""
    places = []
    for frame in frames:
        dx, dy = offset(scene.motion, turn(scene, frame), moment(frame))
        places.append(scene.camera.seen(scene.x + dx, scene.y + dy, moment(frame)))
    return places


def _phases(motion: str) -> tuple[float, ...]:
    """Where a closed motion may begin, so that its step from the last frame to the first is a usual one."""
    if motion not in CLOSED:
        return (0.0,)
    found = []
    for phase in (number / 64 for number in range(64)):
        places = [offset(motion, phase + frame / FRAMES, 0) for frame in range(FRAMES + 1)]
        steps = [math.dist(a, b) for a, b in itertools.pairwise(places)]
        usual = sorted(steps[:-1])[len(steps[:-1]) // 2]
        if SEAM[0] <= steps[-1] / usual <= SEAM[1]:
            found.append(phase)
    return tuple(found)


PHASES: Mapping[str, tuple[float, ...]] = {motion: _phases(motion) for motion in MOTIONS}
