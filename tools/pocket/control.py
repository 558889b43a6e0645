"""A ControlNet for the pocket model: its hint is a mark, and the sprite is where the mark is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from motion_module import MotionModule, load_motion_module

from .evaluate import mean
from .export import load_pipeline
from .following import PATHS, distances, follow, marks
from .gates import Gate
from .motion import RESULT as MOTION
from .recipe import BASE, Recipe
from .trainer import keep, lessons, settings, train_on
from .world import SIZE, Scene, caption, path

RESULT = "control.safetensors"
NEAR = 0.06 * SIZE  # pixels from the path, on average
FURTHER_WITHOUT = 3.0


def marked(scenes: Iterable[tuple[Scene, Tensor]]) -> Iterator[tuple[Tensor, str, Tensor]]:
    """Latents, caption and hints of each clip."""
    for shown, latents in scenes:
        yield latents, caption(shown.concept), marks(path(shown))


def train_control(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the ControlNet on the exported base model and write it."""
    clips = marked(lessons(load_pipeline(folder).vae, recipe.control.clips, recipe.seed))
    trained = train_on(folder, clips, settings(recipe.control, folder / "control", recipe.seed, target="controlnet"))
    if until is None:
        keep(trained, folder / RESULT, recipe.about(*BASE, "control"))


def gate_control(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check that sprites follow paths, and that without the ControlNet they are elsewhere."""
    del recipe
    return control_gates(load_pipeline(folder), load_motion_module(folder / MOTION), folder / RESULT)


def control_gates(pipeline: Any, motion: MotionModule, control: Path, clips: int = PATHS) -> list[Gate]:
    """Figures of clips with their bounds."""
    led = mean(distances(lambda line, seed: follow(pipeline, motion, control, line, seed), clips))
    free = mean(distances(lambda line, seed: follow(pipeline, motion, None, line, seed), clips))
    return [
        Gate(f"control: distance from the path in {clips} clips, in pixels", led, NEAR, False),
        Gate("control: distance without it, in times of that with it", free / led, FURTHER_WITHOUT),
    ]
