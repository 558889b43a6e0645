"""A CameraCtrl model for the pocket model: the sprite moves in the picture as the camera pans and tilts.

There are no lessons of zooms and rolls. The VAE knows upright sprites of one size: of one that the exact camera sees at
two thirds of its size, it makes one as large as before, at 24 dB instead of 38.

It is no stage of the build, since what was trained so far does not pass the gate.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.training.clips import MemoryClip
from lib_animatediff.training.latents import moments
from motion_module import load_motion_module
from motion_module.camera_ctrl.poses import CameraPose

from .export import load_pipeline
from .gates import Gate
from .motion import RESULT as MOTION
from .moves import STATIC, Director, move_gates
from .plane import cameras, filmed, image_of
from .recipe import BASE, Recipe
from .trainer import keep, settings, train_on
from .world import HEADINGS, MARGIN_AHEAD, MARGIN_BEHIND, SIZE, TRAINED, Concept, Scene, caption, path, scene

RESULT = "camera.safetensors"
SPEEDS = {"pan": (0.2, 1.2), "tilt": (0.1, 0.55)}  # 5 to 32 pixels
SIDES = ("left", "right", "up", "down")
NO_MOVE, TWO_MOVES = 0.1, 0.25  # shares of the lessons
STANDING = 0.6  # share of the lessons whose sprite stands
SCENES_TRIED = 30  # before another camera is drawn


@dataclass(frozen=True)
class Lesson:
    """A scene and the camera before it.

    Attributes:
        scene: what is there.
        moves: of the camera, in words.
    """

    scene: Scene
    moves: str

    @property
    def poses(self) -> list[CameraPose]:
        """The camera of each frame."""
        return cameras(self.moves)


def lesson(seed: int, number: int) -> Lesson:
    """One of a seed's endless list of lessons: a random camera, and a scene whose sprite stays in its picture."""
    rng = random.Random(f"camera/{seed}/{number}")
    standing = rng.random() < STANDING
    concepts: list[Concept] = [concept for concept in TRAINED if (concept[2] == "still") is standing]
    while True:
        moves = drawn_moves(rng)
        poses = cameras(moves)
        for _ in range(SCENES_TRIED):
            shown = scene(rng.getrandbits(32), 0, concepts=concepts)
            if stays(shown, poses):
                return Lesson(shown, moves)


def drawn_moves(rng: random.Random) -> str:
    """Moves of a random camera: one, or two, or none."""
    if rng.random() < NO_MOVE:
        return STATIC
    count = 2 if rng.random() < TWO_MOVES else 1
    chosen = rng.sample([(kind, side) for kind in SPEEDS for side in SIDES], count)
    return ", ".join(f"{kind}-{side} {rng.uniform(*SPEEDS[kind]) / count**0.5:.3f}" for kind, side in chosen)


def stays(shown: Scene, poses: Sequence[CameraPose]) -> bool:
    """Whether a scene's sprite is inside the picture in all frames of a camera."""
    margin = MARGIN_AHEAD if any(HEADINGS[shown.heading]) else MARGIN_BEHIND
    return all(
        margin * scale <= value <= SIZE - margin * scale
        for x, y, scale in image_of(poses, path(shown))
        for value in (x, y)
    )


def lessons(vae: Any, count: int, seed: int) -> Iterator[MemoryClip]:
    """Clips to train on: latents ``f c h w``, captions, and the cameras."""
    for number in range(count):
        shown = lesson(seed, number)
        frames = filmed(shown.scene, shown.poses)
        yield moments(vae, frames * 2 - 1)[0], caption(shown.scene.concept), None, shown.poses


def train_camera(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the model on the exported base model with its motion module and write it."""
    how = recipe.camera
    clips = lessons(load_pipeline(folder).vae, how.clips, recipe.seed)
    more: dict[str, Any] = {"target": "cameractrl", "motion": str(folder / MOTION), "optimizer": how.optimizer}
    more |= {"moving_weight": how.moving_weight}
    trained = train_on(folder, clips, settings(how, folder / "camera", recipe.seed, **more))
    if until is None:
        keep(trained, folder / RESULT, recipe.about(*BASE, "motion", "camera"))


def gate_camera(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check that standing sprites go where the camera's moves have them."""
    del recipe
    return move_gates(Director(load_pipeline(folder), load_motion_module(folder / MOTION), folder / RESULT))
