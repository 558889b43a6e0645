"""The motion module distilled for 4 steps without CFG, with the project's own trainer."""

from __future__ import annotations

from pathlib import Path

from motion_module import load_motion_module

from .evaluate import animated, score
from .export import load_pipeline
from .gates import Gate
from .motion import RESULT as MOTION
from .recipe import BASE, Recipe
from .trainer import keep, lessons, settings, train_on
from .world import caption

RESULT = "fast.safetensors"
STEPS = 4
HEADING_KEPT = 0.9  # share of the headings that are right with the motion module that is distilled


def train_fast(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Distil the motion module and write the result; the trainer goes on by itself where it was interrupted."""
    how = recipe.fast
    scenes = lessons(load_pipeline(folder).vae, how.clips, recipe.seed)
    clips = ((latents, caption(shown.concept)) for shown, latents in scenes)
    asked = settings(
        how, folder / "fast", recipe.seed, motion=str(folder / MOTION), distill_cfg=how.cfg, optimizer=how.optimizer
    )
    trained = train_on(folder, clips, asked)
    if until is None:
        keep(trained, folder / RESULT, recipe.about(*BASE, "motion", "fast"))


def gate_fast(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check that clips of 4 steps without CFG go where those of 25 steps with CFG go."""
    del recipe
    pipeline = load_pipeline(folder)
    full = score("motion", animated(pipeline, load_motion_module(folder / MOTION)))
    make = animated(pipeline, load_motion_module(folder / RESULT), sampler="lcm", steps=STEPS, cfg=1.0)
    found = score("fast", make)
    return [
        Gate(f"fast: heading right in {found.clips} clips", found.heading, HEADING_KEPT * full.heading),
        Gate("fast: way along the heading in pixels", found.displacement, 0.0),
        Gate("fast: frames that show the caption", found.subject, HEADING_KEPT * full.subject),
    ]
