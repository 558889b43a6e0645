"""The training clips as latents, encoded once: what the base model and the motion module learn from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from tools.pocket.loop import load, replacing, save
from tools.pocket.vae import PIXELS_PER_LATENT, Vae, in_parts
from tools.village.draw import truth
from tools.village.scene import Scene, scene
from tools.village.words import caption

from . import workers
from .pictures import frames
from .recipe import SIZE, Recipe, StyleRecipe
from .vae import load_vae

RESULT = "latents.safetensors"
SAVE_EVERY = 64  # clips of a process
SIDE = SIZE // PIXELS_PER_LATENT


@dataclass(frozen=True)
class Clips:
    """Clips of scenes.

    Attributes:
        latents: n f c h w in half precision, as the UNet sees them.
        middles: where the subject is in each frame, n f 2, in latents.
        scenes: what they show.
    """

    latents: Tensor
    middles: Tensor
    scenes: list[Scene]

    def lessons(self) -> Iterator[tuple[Tensor, str]]:
        """Latents and caption of each clip; every second caption has synonyms."""
        for number, (latents, shown) in enumerate(zip(self.latents.float(), self.scenes, strict=True)):
            yield latents, caption(shown.concepts, seed=number if number % 2 else None)


@torch.no_grad()
def encode(vae: Vae, shown: Scene, bfloat16: bool) -> Tensor:
    """The clip of a scene as latents, f c h w."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        return in_parts(vae.encode, frames(shown)).half()


def encode_clips(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Encode the training clips and write them."""
    _encode(recipe, folder, RESULT, recipe.latents.clips, "plain", recipe.about("vae", "latents"), until)


def encode_style(recipe: Recipe, folder: Path, part: str, until: int | None = None) -> None:
    """Encode what a part of the recipe (lora, fine_tune) learns a style from, and write it."""
    how: StyleRecipe = getattr(recipe, part)
    _encode(
        recipe,
        folder,
        style_result(part),
        how.clips,
        how.style,
        recipe.about("vae", "latents", part),
        until,
    )


def style_result(part: str) -> str:
    """The file with the clips that a part of the recipe learns a style from."""
    return f"{part}-latents.safetensors"


def _encode(
    recipe: Recipe, folder: Path, result: str, count: int, style: str, about: Mapping[str, Any], until: int | None
) -> None:
    """Encode clips, each process every n-th, and write them."""
    vae = load_vae(folder)
    state = folder / f"{result}.{workers.rank()}.state"
    done: list[Tensor] = torch.load(state, weights_only=True) if state.exists() else []
    mine = range(workers.rank(), count, workers.count())
    stop = len(mine) if until is None else min(until, len(mine))
    for number in tqdm(mine[len(done) : stop], initial=len(done), total=len(mine), desc=result, disable=None):
        done.append(encode(vae, scene(recipe.seed, number, style=style), recipe.latents.bfloat16))
        if len(done) % SAVE_EVERY == 0 or len(done) == stop:
            with replacing(state) as path:
                torch.save(done, path)
    if stop < len(mine):
        return
    parts = workers.gather(torch.stack(done))
    if workers.rank() == 0:
        save(folder / result, {"latents": torch.stack(parts, dim=1).flatten(0, 1)}, about)
    workers.wait()
    state.unlink()


def load_clips(recipe: Recipe, folder: Path) -> Clips:
    """The training clips."""
    return _load(recipe, folder / RESULT, "plain")


def load_style_clips(recipe: Recipe, folder: Path, part: str) -> Clips:
    """What a part of the recipe learns a style from."""
    how: StyleRecipe = getattr(recipe, part)
    return _load(recipe, folder / style_result(part), how.style)


def _load(recipe: Recipe, path: Path, style: str) -> Clips:
    latents = load(path)[0]["latents"]
    scenes = [scene(recipe.seed, number, style=style) for number in range(len(latents))]
    return Clips(latents, torch.tensor([truth(each, SIDE) for each in scenes]), scenes)
