"""The motion module, trained with the project's own trainer on the frozen base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff.training import Base, MemorySource, TrainingSettings, train

from .latents import Clips
from .recipe import MotionRecipe
from .world import CONCEPTS, FRAMES, SIZE, caption

SHOWN = ("a red disc moving left", "a blue square moving right")  # clips to look at while it trains


def settings(recipe: MotionRecipe, folder: Path, seed: int, **more: Any) -> TrainingSettings:
    """The trainer's settings for the pocket motion module."""
    return TrainingSettings(
        kind=recipe.kind,
        frames=FRAMES,
        stride=1,
        size=SIZE,
        steps=recipe.steps,
        batch=recipe.batch,
        lr=recipe.rate,
        lr_schedule="cosine",
        warmup=recipe.warm_up,
        beta2=0.99,
        ema=recipe.average,
        largest_weight=recipe.largest_weight,
        timestep_power=recipe.timestep_power,
        seed=seed,
        precision="no",
        device="cpu",
        output=str(folder),
        resume=True,
        half=True,
        save_every=recipe.save_every,
        validation_every=recipe.validation_every,
        validation_prompts=SHOWN,
        **more,
    )


def train_motion_module(pipeline: Any, clips: Clips, how: TrainingSettings) -> Path:
    """Train on encoded clips; returns the motion module's file.

    Args:
        pipeline: the base model as a diffusers pipeline.
        clips: of the plain style, encoded.
        how: see `settings`.
    """
    captions = [caption(CONCEPTS[number]) for number in clips.concepts.tolist()]
    source = MemorySource(zip(clips.latents, captions, strict=True), latents=True)
    return train(how, base=Base.of_pipeline(pipeline), clips=source)
