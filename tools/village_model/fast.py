"""The motion module distilled for few steps without CFG, with the project's own trainer."""

from __future__ import annotations

from pathlib import Path

from tools.pocket.trainer import keep, settings, train_on

from . import workers
from .base import PARTS
from .export import VILLAGE
from .latents import load_clips
from .motion import RESULT as MOTION
from .recipe import SIZE, Recipe

RESULT = "fast.safetensors"


def train_fast(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Distil the motion module and write the result; the trainer goes on by itself where it was interrupted."""
    del until  # the trainer has its own states
    clips, how = load_clips(recipe, folder), recipe.fast
    asked = settings(
        how, folder / "fast", recipe.seed, SIZE, motion=str(folder / MOTION), distill_cfg=how.cfg, optimizer="muon"
    )
    trained = train_on(folder, clips.lessons(), asked, VILLAGE.name)
    if workers.rank() == 0:
        keep(trained, folder / RESULT, recipe.about(*PARTS, "motion", "smooth", "fast"))
