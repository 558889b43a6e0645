"""The motion module, trained with the project's own trainer on the frozen base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tools.pocket.trainer import keep, settings, train_on

from . import workers
from .base import PARTS
from .export import VILLAGE
from .latents import load_clips
from .recipe import SIZE, MotionRecipe, Recipe

RESULT = "motion.safetensors"


def train_motion(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the motion module in two parts and write it; the trainer goes on by itself where it was interrupted."""
    del until  # the trainer has its own states
    clips = load_clips(recipe, folder)

    def part(how: MotionRecipe, name: str, seed: int, **more: Any) -> Path:
        asked = settings(
            how,
            folder / name,
            seed,
            SIZE,
            frames=how.frames,
            stride=how.stride,
            moving_weight=how.moving_weight,
            optimizer="muon",
            validation_prompts=how.shown,
            **more,
        )
        return train_on(folder, clips.lessons(), asked, VILLAGE.name)

    first = recipe.motion
    moving = part(first, "motion", recipe.seed, kind=first.kind, local_heads=True, spread_positions=True)
    trained = part(recipe.smooth, "smooth", recipe.seed + 1, motion=str(moving))
    if workers.rank() == 0:
        keep(trained, folder / RESULT, recipe.about(*PARTS, "motion", "smooth"))
