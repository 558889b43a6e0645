"""The project's own trainer, told to train on the pocket model: a motion module, or a motion LoRA on it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from lib_animatediff.training import Base, MemorySource, TrainingSettings, train
from lib_animatediff.training.clips import MemoryClip
from lib_animatediff.training.export import read_recipe
from lib_animatediff.training.latents import moments

from .export import NAME, load_pipeline
from .loop import save
from .recipe import TrainerRecipe
from .world import FRAMES, SIZE, Scene, clip, scene


def settings(recipe: TrainerRecipe, folder: Path, seed: int, size: int = SIZE, **more: Any) -> TrainingSettings:
    """The trainer's settings.

    Args:
        recipe: figures.
        folder: for states, samples and the file that is trained.
        seed: of the draws.
        size: of the pictures, in pixels.
        more: settings of the one thing that is trained.
    """
    return TrainingSettings(
        size=size,
        steps=recipe.steps,
        batch=recipe.batch,
        lr=recipe.rate,
        lr_schedule="cosine",
        warmup=recipe.warm_up,
        beta2=recipe.beta2,
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
        validation_clips=recipe.validation_clips,
        **{"frames": FRAMES, "stride": 1} | more,
    )


def lessons(vae: Any, count: int, seed: int) -> Iterator[tuple[Scene, Tensor]]:
    """Clips of the world that a model learns from: scenes, and their latents ``f c h w``."""
    for number in range(count):
        shown = scene(seed, number)
        yield shown, moments(vae, clip(shown) * 2 - 1)[0]


def train_on(folder: Path, clips: Iterable[MemoryClip], how: TrainingSettings, name: str = NAME) -> Path:
    """Train on a build's base model with encoded clips, f c h w, and their captions; returns the trainer's file."""
    base = Base.of_pipeline(load_pipeline(folder, name))
    return train(how, base=base, clips=MemorySource(clips, latents=True))


def keep(trained: Path, result: Path, about: Mapping[str, Any]) -> None:
    """Make the trainer's file a stage's result, labelled with the recipe and with the trainer's own account of it."""
    save(result, load_file(trained), {**about, "training": read_recipe(trained)})
