"""The motion module, trained with the project's own trainer on the frozen base model."""

from __future__ import annotations

from pathlib import Path

from tools.pocket.trainer import keep, settings, train_on

from . import workers
from .base import PARTS
from .export import VILLAGE
from .latents import load_clips
from .recipe import SIZE, Recipe

RESULT = "motion.safetensors"


def train_motion(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the motion module in two parts and write it; the trainer goes on by itself where it was interrupted."""
    del until  # the trainer has its own states
    clips, first, then = load_clips(recipe, folder), recipe.motion, recipe.moving
    asked = settings(
        first, folder / "motion", recipe.seed, SIZE, kind=first.kind, optimizer="muon", validation_prompts=first.shown
    )
    agreeing = train_on(folder, clips.lessons(), asked, VILLAGE.name)
    asked = settings(
        then,
        folder / "moving",
        recipe.seed + 1,
        SIZE,
        motion=str(agreeing),
        moving_weight=then.moving_weight,
        local_heads=then.local_heads,
        optimizer="muon",
        validation_prompts=then.shown,
    )
    trained = train_on(folder, clips.lessons(), asked, VILLAGE.name)
    if workers.rank() == 0:
        keep(trained, folder / RESULT, recipe.about(*PARTS, "motion", "moving"))
