"""The village model's UNet, trained on stills of the plain style."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from tools.pocket.base import TRAINING_STEPS, alphas_cumprod, new_unet, noised
from tools.pocket.loop import Plan, load, save, stream, warm_cosine
from tools.pocket.text import TextEncoder
from tools.pocket.vae import PIXELS_PER_LATENT
from tools.village.board import UNITS
from tools.village.scene import MARGIN

from . import workers
from .latents import SIDE, Clips, load_clips
from .recipe import SIZE, Recipe, StillsRecipe
from .text import load_encoder, written

RESULT = "base.safetensors"
PARTS = ("vae", "latents", "base")  # the recipe's parts that the base model depends on
REACH = MARGIN * SIZE / UNITS / PIXELS_PER_LATENT  # of a subject, in latents


def around(middles: Tensor, weight: float) -> Tensor:
    """How much each latent counts, n 1 h w, 1 on the mean: more in a square around each middle, n 2."""
    places = torch.arange(SIDE) + 0.5
    x, y = ((places - middles[:, axis, None]).abs() < REACH for axis in (0, 1))
    counted = 1 + weight * (y[:, :, None] & x[:, None, :]).float()
    return (counted / counted.mean(dim=(1, 2), keepdim=True))[:, None]


def loss(unet: nn.Module, clips: Clips, encoder: TextEncoder, how: StillsRecipe, seed: int, step: int) -> Tensor:
    """Weighted error of the predicted noise in this process's share of a step's batch."""
    random = stream(seed, "village base", step, workers.rank())
    count = how.batch // workers.count()
    rows = torch.randint(clips.latents.shape[0], (count,), generator=random)
    frames = torch.randint(clips.latents.shape[1], (count,), generator=random)
    shown = [clips.scenes[row] for row in rows.tolist()]
    context = encoder(written(shown, random, how.plain_captions, how.empty_captions))
    if step < how.steps * (1 - how.long_share):
        context = context[:, : how.short_tokens]  # the encoder is causal: cutting changes no other token
    places = around(clips.middles[rows, frames], how.subject_weight)
    clean = clips.latents[rows, frames].float()
    return weighted_error(unet, clean, context, random, how.largest_weight, how.noise_offset, places)


def weighted_error(
    unet: nn.Module,
    clean: Tensor,
    context: Tensor,
    random: torch.Generator,
    largest_weight: float,
    noise_offset: float = 0.0,
    places: Tensor | float = 1.0,
) -> Tensor:
    """Mean error of the predicted noise at random timesteps.

    Args:
        unet: predicts.
        clean: latents, n c h w.
        context: conditions, n t c.
        random: draws timesteps and noise.
        largest_weight: of a timestep.
        noise_offset: size of noise that is the same everywhere in a channel, which is added to the usual one.
        places: how much each latent counts.
    """
    t = torch.randint(TRAINING_STEPS, (len(clean),), generator=random)
    noise = torch.randn(clean.shape, generator=random)
    if noise_offset:
        noise += noise_offset * torch.randn(*clean.shape[:2], 1, 1, generator=random)
    error = (unet(noised(clean, noise, t), t, context=context) - noise).square() * places
    # 1 + sigma^2, which is 1 / alpha: high noise levels decide what is painted, and weigh nothing in the plain loss.
    weight = (1 / alphas_cumprod()[t]).clamp(max=largest_weight)
    weighted: Tensor = weight * error.mean(dim=(1, 2, 3))
    return weighted.mean()


def train_base(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the UNet and write it."""
    how, unet = recipe.base, new_unet(recipe.seed)
    clips, encoder = load_clips(recipe, folder), load_encoder(recipe, folder)
    plan = Plan("base", how.steps, warm_cosine(how.rate, how.steps, how.warm_up), how.average, muon=True)
    state = folder / "base.state"
    if workers.train(unet, lambda step: loss(unet, clips, encoder, how, recipe.seed, step), plan, state, until):
        save(folder / RESULT, unet.state_dict(), recipe.about(*PARTS))
        state.unlink()


def load_unet(folder: Path) -> nn.Module:
    """The trained UNet."""
    unet = new_unet(0)
    unet.load_state_dict(load(folder / RESULT)[0])
    return unet.eval().requires_grad_(False)
