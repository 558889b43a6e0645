"""A SparseCtrl encoder for the pocket model: the sprite is where a given image shows it, and goes on from there."""

from __future__ import annotations

from pathlib import Path

from motion_module import load_motion_module

from .evaluate import mean
from .export import load_pipeline
from .gates import Gate
from .keys import ENDS, FIRST, Models, measure
from .motion import RESULT as MOTION
from .recipe import BASE, Recipe
from .trainer import keep, lessons, settings, train_on
from .world import caption

RESULT = "sparse.safetensors"
GATE_CLIPS = 24
STARTS, MEETS = 40 / 48, 36 / 48  # shares of the clips


def train_sparse(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the encoder on the exported base model with its motion module and write it."""
    scenes = lessons(load_pipeline(folder).vae, recipe.sparse.clips, recipe.seed)
    clips = ((latents, caption(shown.concept)) for shown, latents in scenes)
    motion = str(folder / MOTION)
    how = settings(recipe.sparse, folder / "sparse", recipe.seed, target="sparsectrl", motion=motion)
    trained = train_on(folder, clips, how)
    if until is None:
        keep(trained, folder / RESULT, recipe.about(*BASE, "motion", "sparse"))


def gate_sparse(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check that clips start from an image and move on, and that they go from one image to another."""
    del recipe
    return sparse_gates(Models(load_pipeline(folder), load_motion_module(folder / MOTION), folder / RESULT))


def sparse_gates(models: Models, clips: int = GATE_CLIPS) -> list[Gate]:
    """Figures of clips with their bounds."""
    usual = mean(each.displacement for each in measure("without", models.without, FIRST, clips))
    started = measure("sparse", models.sparse, FIRST, clips)
    between = measure("sparse", models.sparse, ENDS, clips)
    return [
        Gate(
            f"sparse: start at the image and move on, of {clips} clips",
            mean(each.is_met and each.moves(usual) for each in started),
            STARTS,
        ),
        Gate(
            f"sparse: go from image to image, of {clips} clips",
            mean(each.is_met and each.is_monotone for each in between),
            MEETS,
        ),
    ]
