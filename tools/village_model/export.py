"""The trained model as files, see `tools.pocket.export`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import nn

from tools.pocket.export import Design, checkpoint, write_configs
from tools.pocket.loop import save
from tools.village.words import known_words

from .base import PARTS, load_unet
from .recipe import SIZE, Recipe
from .vae import CONFIG, load_vae

VILLAGE = Design("village", SIZE, CONFIG, tuple(known_words()))
RESULT = f"{VILLAGE.name}.safetensors"


def export(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Write checkpoint, `village.yaml` and `config`, the folder for diffusers."""
    del until  # it is done at once
    write_checkpoint(recipe, folder, load_unet(folder), VILLAGE.name)


def write_checkpoint(recipe: Recipe, folder: Path, unet: nn.Module, name: str, more: Sequence[str] = ()) -> Path:
    """Write a UNet with VAE and text encoder as a checkpoint; returns its path."""
    write_configs(folder, VILLAGE, name)
    path = folder / f"{name}.safetensors"
    save(path, checkpoint(unet, load_vae(folder), recipe.seed, VILLAGE), recipe.about(*PARTS, *more))
    return path
