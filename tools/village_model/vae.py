"""The village model's VAE: Stable Diffusion's topology at 64 channels, twice as wide where it is cheap."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tools.pocket.loop import Plan, load, save, stream
from tools.pocket.recipe import VaeRecipe
from tools.pocket.vae import DDCONFIG, LATENT_PENALTY, LOG_VARIANCE, Vae, distance, new_vae, rate, whiten

from . import workers
from .pictures import crops, drawn, stills
from .recipe import SIZE, Recipe

FIRST_RESULT = "vae-first.safetensors"
RESULT = "vae.safetensors"
CONFIG: dict[str, Any] = {**DDCONFIG, "resolution": SIZE, "ch_mult": [1, 1, 2, 2]}


def loss(vae: Vae, how: VaeRecipe, seed: int, step: int, drawing: int) -> Tensor:
    """Reconstruction error of this process's share of a step's batch, with the pictures of a drawing."""
    random = stream(seed, "village vae", drawing, workers.rank())
    if step < how.crop_steps:
        shown = crops(drawn(random, how.styles, how.crop_batch // workers.count()), how.crop, random)
    else:
        shown = stills(drawn(random, how.styles, how.batch // workers.count()))
    with torch.autocast("cpu", torch.bfloat16, enabled=how.bfloat16):
        z = vae.mean(shown)
        noise = torch.randn(z.shape, generator=random)
        painted = vae.paint(z + math.exp(LOG_VARIANCE / 2) * noise)
    return distance(painted, shown) + LATENT_PENALTY * z.float().square().mean()


def train_first(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the VAE on all styles and write it."""
    _train(new_vae(recipe.seed, CONFIG), recipe, "vae_first", folder / FIRST_RESULT, until)


def train_vae(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train it further on the styles that are shipped, and write it."""
    _train(_load(folder / FIRST_RESULT), recipe, "vae", folder / RESULT, until)


def _train(model: Vae, recipe: Recipe, part: str, result: Path, until: int | None) -> None:
    how: VaeRecipe = getattr(recipe, part)
    plan = Plan(part, how.steps, lambda step: rate(how, step), how.average, save_every=100)
    state = result.with_suffix(".state")
    # each leg draws pictures of its own
    first = 0 if part == "vae_first" else recipe.vae_first.steps
    if workers.train(model, lambda step: loss(model, how, recipe.seed, step, first + step), plan, state, until):
        whiten(model, stills(drawn(stream(recipe.seed, "village whitening"), ("plain",), how.whitening)))
        save(result, model.state_dict(), recipe.about(*dict.fromkeys(("vae_first", part))))
        state.unlink()


def load_vae(folder: Path) -> Vae:
    """The trained VAE."""
    return _load(folder / RESULT).eval().requires_grad_(False)


def _load(path: Path) -> Vae:
    vae = new_vae(0, CONFIG)
    vae.load_state_dict(load(path)[0])
    return vae
