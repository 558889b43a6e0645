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

RESULT = "vae.safetensors"
CONFIG: dict[str, Any] = {**DDCONFIG, "resolution": SIZE, "ch_mult": [1, 1, 2, 2]}


def loss(vae: Vae, how: VaeRecipe, seed: int, step: int) -> Tensor:
    """Reconstruction error of this process's share of a step's batch."""
    random = stream(seed, "village vae", step, workers.rank())
    if step < how.crop_steps:
        shown = crops(drawn(random, how.styles, how.crop_batch // workers.count()), how.crop, random)
    else:
        shown = stills(drawn(random, how.styles, how.batch // workers.count()))
    with torch.autocast("cpu", torch.bfloat16, enabled=how.bfloat16):
        z = vae.mean(shown)
        noise = torch.randn(z.shape, generator=random)
        painted = vae.paint(z + math.exp(LOG_VARIANCE / 2) * noise)
    return distance(painted, shown) + LATENT_PENALTY * z.float().square().mean()


def train_vae(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the VAE and write it."""
    how, model = recipe.vae, new_vae(recipe.seed, CONFIG)
    plan = Plan("vae", how.steps, lambda step: rate(how, step), how.average, save_every=100, muon=True)
    state = folder / "vae.state"
    if workers.train(model, lambda step: loss(model, how, recipe.seed, step), plan, state, until):
        whiten(model, stills(drawn(stream(recipe.seed, "village whitening"), ("plain",), how.whitening)))
        save(folder / RESULT, model.state_dict(), recipe.about("vae"))
        state.unlink()


def load_vae(folder: Path) -> Vae:
    """The trained VAE."""
    vae = new_vae(0, CONFIG)
    vae.load_state_dict(load(folder / RESULT)[0])
    return vae.eval().requires_grad_(False)
