"""The motion module, trained with the project's own trainer on the frozen base model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from motion_module import load_motion_module

from .evaluate import MOVING, animated, score
from .export import load_pipeline
from .gates import Gate
from .latents import load_clips
from .recipe import BASE, Recipe
from .trainer import keep, settings, train_on
from .world import CONCEPTS, TRAVEL, caption

RESULT = "motion.safetensors"
GATE_CLIPS = 16


def train_motion(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the motion module and write it; the trainer goes on by itself where it was interrupted."""
    clips = load_clips(folder / "latents.safetensors")
    captions = [caption(CONCEPTS[number]) for number in clips.concepts.tolist()]
    for steps in (*recipe.motion.pauses, recipe.motion.steps):
        leg = replace(recipe.motion, steps=steps)
        how = settings(leg, folder / "motion", recipe.seed, kind=leg.kind, validation_prompts=leg.shown)
        trained = train_on(folder, zip(clips.latents, captions, strict=True), how)
        if until is not None:
            return
    keep(trained, folder / RESULT, recipe.about(*BASE, "motion"))


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
