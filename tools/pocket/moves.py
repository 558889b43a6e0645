"""Clips under named moves of a camera, beside what the exact camera sees.

The sprite stands in the world, so that all it does in the picture is the camera's. Where it begins is the seed's; from
there the exact camera says where it ends.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.camera.unit import CameraUnit
from lib_animatediff.video import write_gif
from motion_module import MotionModule, load_motion_module

from .evaluate import LEAST_WAY, SEEDS_APART, mean, to_tensor
from .gates import GATE_SEED, Gate
from .loop import replacing
from .measure import middle
from .pictures import grid
from .plane import cameras, filmed, image_of
from .report import pipeline_of
from .sampling import CFG, STEPS
from .showcase import FPS, named
from .world import CONCEPTS, FRAMES, SIZE, Concept, Scene, caption

STATIC = "static"
MOVES = (  # about 20 pixels each
    *(f"pan-{side} 0.8" for side in ("left", "right", "up", "down")),
    *(f"tilt-{side} 0.35" for side in ("left", "right", "up", "down")),
    "pan-left 0.55, pan-up 0.55",
    "pan-right 0.55, pan-up 0.55",
    "pan-right 0.55, tilt-down 0.25",
    STATIC,
)
STANDING: tuple[Concept, ...] = tuple(concept for concept in CONCEPTS if concept[2] == "still")
CLIPS = 12  # of each move
GATE_CLIPS = 4
STRIDE = 5  # through the concepts, so that some clips have something of each
SAME_WAY = 30.0  # degrees between two ways that look alike
RIGHT, FAR_ENOUGH = 0.8, 0.6  # shares of the clips, and of the exact way
SHOWN_FRAMES = (0, 3, 6, 9, 12, 15)

Make = Callable[[Concept, int, str], Tensor]  # concept, seed and moves to frames, f c h w from 0 to 1


@dataclass(frozen=True)
class Director:
    """What makes the clips.

    Attributes:
        pipeline: of the base model.
        motion: its motion module.
        model: its CameraCtrl model.
    """

    pipeline: Any
    motion: MotionModule
    model: Path

    @classmethod
    def load(cls, folder: Path, model: Path | None = None) -> Director:
        """The shipped files in a folder, or another CameraCtrl model with them."""
        motion = load_motion_module(folder / POCKET.motion)
        return cls(pipeline_of(folder / POCKET.checkpoint), motion, model or folder / POCKET.camera)

    def clip(self, concept: Concept, seed: int, moves: str) -> Tensor:
        """Frames of a clip under a camera, f c h w from 0 to 1."""
        return self._made(concept, seed, [CameraUnit(self.model, moves)])

    def without(self, concept: Concept, seed: int, _moves: str) -> Tensor:
        """The clip without a camera."""
        return self._made(concept, seed, [])

    def _made(self, concept: Concept, seed: int, controls: Sequence[CameraUnit]) -> Tensor:
        how: dict[str, Any] = {"frames": FRAMES, "size": (SIZE, SIZE), "steps": STEPS, "cfg": CFG}
        pictures = animate(self.pipeline, self.motion, prompt=caption(concept), seed=seed, controls=controls, **how)
        return torch.stack([to_tensor(picture) for picture in pictures])


@dataclass(frozen=True)
class Seen:
    """What a clip shows beside what the exact camera sees from the same first frame.

    Attributes:
        move: its name.
        exact: way of the sprite from the first to the last frame, in pixels, as the camera has it.
        way: that of the clip.
    """

    move: str
    exact: tuple[float, float]
    way: tuple[float, float]

    @property
    def along(self) -> float:
        """Pixels along the exact way."""
        length = math.hypot(*self.exact)
        return sum(a * b for a, b in zip(self.exact, self.way, strict=True)) / length if length else 0.0

    @property
    def away(self) -> float:
        """Pixels from where the exact camera sees the sprite at the end."""
        return math.dist(self.exact, self.way)

    @property
    def is_right(self) -> bool:
        """Whether the sprite stands, or goes into the direction, as the exact camera shows it."""
        goes, should = (math.hypot(*way) >= LEAST_WAY for way in (self.way, self.exact))
        if not (goes and should):
            return goes == should
        return self.along >= math.cos(math.radians(SAME_WAY)) * math.hypot(*self.way)


def seen(move: str, frames: Tensor) -> Seen:
    """What a clip of a move shows. Without a sprite at an end, it goes nowhere near."""
    first, last = (middle(frame, "plain") for frame in (frames[0], frames[-1]))
    if first is None or last is None:
        return Seen(move, (0.0, 0.0), (SIZE, SIZE))
    x, y, _ = image_of(cameras(move), [first] * FRAMES)[-1]
    return Seen(move, (x - first[0], y - first[1]), (last[0] - first[0], last[1] - first[1]))


def subject(number: int) -> tuple[Concept, int]:
    """The concept and the seed of each of an endless list of clips, the same for each move."""
    return STANDING[number * STRIDE % len(STANDING)], GATE_SEED + number * SEEDS_APART


def measure_moves(make: Make, clips: int = CLIPS, kept: Path | None = None) -> list[Seen]:
    """What clips of each move show.

    Args:
        kept: keeps what is measured, clip by clip; remove it to measure again.
    """
    found = json.loads(kept.read_text(encoding="utf-8")) if kept is not None and kept.is_file() else {}
    for number in tqdm(range(clips), disable=None):
        for move in MOVES:
            if len(found.setdefault(move, [])) == number:
                found[move].append(asdict(seen(move, make(*subject(number), move))))
                if kept is not None:
                    with replacing(kept) as path:
                        path.write_text(json.dumps(found), encoding="utf-8")
    lists = [each for move in MOVES for each in found[move][:clips]]
    return [Seen(**{**each, "exact": tuple(each["exact"]), "way": tuple(each["way"])}) for each in lists]


def table(found: Sequence[Seen]) -> Iterator[str]:
    """Rows: for each move, what the exact camera shows and what the clips show."""
    yield "| moves | exact way, pixels | way along it | from the exact end | in its direction |"
    yield "|---|---|---|---|---|"
    for move in MOVES:
        clips = [each for each in found if each.move == move]
        cells = (
            f"{mean(math.hypot(*each.exact) for each in clips):.1f}",
            f"{mean(each.along for each in clips):.1f}",
            f"{mean(each.away for each in clips):.1f}",
            f"{sum(each.is_right for each in clips)} of {len(clips)}",
        )
        yield f"| {move} | {' | '.join(cells)} |"


def move_gates(director: Director, clips: int = GATE_CLIPS) -> list[Gate]:
    """Figures of clips with their bounds."""
    found = measure_moves(director.clip, clips)
    moved = [each for each in found if each.move != STATIC]
    share = mean(each.along for each in moved) / mean(math.hypot(*each.exact) for each in moved)
    return [
        Gate(
            f"camera: in the direction of the exact one, of {len(found)} clips", mean(c.is_right for c in found), RIGHT
        ),
        Gate("camera: way, of the exact one", share, FAR_ENOUGH),
    ]


def write_picture(director: Director, picture: Path) -> None:
    """Rows: some moves. Columns: what the exact camera sees of a scene, and clips under it."""
    rows = {}
    for move in MOVES:
        exact = filmed(Scene("red", "disc", "still", "plain", SIZE / 2, SIZE / 2, 0.0), cameras(move))
        rows[move.replace(", ", "\n")] = torch.stack([exact, *(director.clip(*subject(n), move) for n in range(3))])
    shown = torch.stack(list(rows.values()))
    write_gif(picture, [named(grid(shown[:, :, frame]), list(rows)) for frame in range(FRAMES)], fps=FPS)


def write_quiz(director: Director, folder: Path, seed: int = 0) -> None:
    """Clips of all moves as strips of frames under shuffled names, for a reader who names them; and their key."""
    folder.mkdir(parents=True, exist_ok=True)
    order = list(MOVES)
    random.Random(seed).shuffle(order)
    key = {}
    for number, move in enumerate(order):
        frames = director.clip(*subject(CLIPS + number), move)
        key[f"{number:02}.png"] = move
        grid(frames[list(SHOWN_FRAMES)][None], zoom=3).save(folder / f"{number:02}.png")
    (folder / "key.json").write_text(json.dumps(key, indent=1), encoding="utf-8")
