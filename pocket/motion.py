"""The motion module, trained with the project's own trainer on the frozen base model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from lib_animatediff.training import Base, MemorySource, TrainingSettings, train
from lib_animatediff.training.export import read_recipe
from motion_module import load_motion_module

from .evaluate import MOVING, animated, score
from .export import load_pipeline
from .gates import Gate
from .latents import Clips, load_clips
from .loop import save
from .recipe import MotionRecipe, Recipe
from .world import CONCEPTS, FRAMES, SIZE, TRAVEL, caption

RESULT = "motion.safetensors"
GATE_CLIPS = 16

SHOWN = ("a red disc moving left", "a blue square moving right")  # clips to look at while it trains


def settings(recipe: MotionRecipe, steps: int, folder: Path, seed: int) -> TrainingSettings:
    """The trainer's settings for one leg of the pocket motion module's training."""
    return TrainingSettings(
        kind=recipe.kind,
        frames=FRAMES,
        stride=1,
        size=SIZE,
        steps=steps,
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
        validation_clips=8,
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


def train_motion(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the motion module leg by leg and write it; the trainer goes on by itself where it was interrupted."""
    del until
    clips, pipeline = load_clips(folder / "latents.safetensors"), load_pipeline(folder)
    for steps in recipe.motion.legs:
        how = settings(recipe.motion, steps, folder / "motion", recipe.seed)
        written = train_motion_module(pipeline, clips, how)
    about = {**recipe.about("vae", "latents", "base", "motion"), "training": read_recipe(written)}
    save(folder / RESULT, load_file(written), about)


def gate_motion(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check clips of some captions: they go where they should, steadily, and the frames agree."""
    del recipe
    make = animated(load_pipeline(folder), load_motion_module(folder / RESULT))
    found = score("motion", make, concepts=MOVING[:: len(MOVING) // GATE_CLIPS])
    return [
        Gate(f"motion: heading right in {found.clips} clips", found.heading, 0.9),
        Gate("motion: way along the heading in pixels", found.displacement, sum(TRAVEL) / 4),  # half of the truth
        Gate("motion: steps along the heading", found.monotone, 0.85),
        Gate("motion: frames that show the caption", found.subject, 0.9),
    ]
