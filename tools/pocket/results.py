"""The stages' results, read back."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from .base import Conditions, new_unet
from .loop import load
from .recipe import Recipe
from .text import TextEncoder
from .vae import Vae, new_vae


def load_vae(folder: Path) -> Vae:
    """The trained VAE, with the decoder that knows both styles."""
    vae = load_first_vae(folder)
    vae.decoder.load_state_dict(load(folder / "decoder.safetensors")[0])
    return vae


def load_first_vae(folder: Path) -> Vae:
    """The VAE whose encoder is finished."""
    vae = new_vae(0)
    vae.load_state_dict(load(folder / "vae.safetensors")[0])
    return vae.eval().requires_grad_(False)


def load_unet(folder: Path) -> nn.Module:
    """The trained UNet."""
    unet = new_unet(0)
    unet.load_state_dict(load(folder / "base.safetensors")[0])
    return unet.eval().requires_grad_(False)


def load_conditions(recipe: Recipe, folder: Path) -> Conditions:
    """The captions, encoded."""
    return Conditions(TextEncoder(recipe.seed, folder / "config" / "tokenizer"))
