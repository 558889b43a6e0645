"""Motion LoRAs: the camera pans or zooms, so that near layers move further than far ones, whatever the subject does."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from tools.pocket.trainer import keep, settings, train_on
from tools.pocket.vae import Vae, in_parts
from tools.village.scene import CLOSED, TRAINED, Camera, scene
from tools.village.words import caption

from . import workers
from .base import PARTS
from .export import VILLAGE
from .motion import RESULT as MOTION
from .pictures import frames
from .recipe import SIZE, CameraRecipe, Recipe
from .vae import load_vae

MOVES = ("pan left", "pan right", "zoom in")
# Subjects that stay where they are leave the camera's way to the LoRA.
STAYING = tuple(concept for concept in TRAINED if concept[2] in ("standing", *CLOSED))


def name(move: str) -> str:
    """What files and stages of a move are called."""
    return move.replace(" ", "-")


def result(move: str) -> str:
    """The file of a move's LoRA."""
    return f"{name(move)}.safetensors"


@torch.no_grad()
def encode_clips(vae: Vae, how: CameraRecipe, move: str, seed: int) -> list[tuple[Tensor, str]]:
    """Clips of a camera move, encoded, with their captions, which do not name it."""
    scenes = [scene(seed, number, STAYING, Camera(move)) for number in range(how.clips)]
    return [(in_parts(vae.encode, frames(each)).float(), caption(each.concepts)) for each in scenes]


def train_camera(recipe: Recipe, folder: Path, until: int | None, move: str) -> None:
    """Train the motion LoRA of a move on the motion module and write it."""
    del until  # the trainer has its own states
    how = recipe.camera
    clips = encode_clips(load_vae(folder), how, move, recipe.seed)
    asked = settings(
        how, folder / name(move), recipe.seed, SIZE, target="motion-lora", motion=str(folder / MOTION), rank=how.rank
    )
    trained = train_on(folder, clips, asked, VILLAGE.name)
    if workers.rank() == 0:
        keep(trained, folder / result(move), recipe.about(*PARTS, "motion", "smooth", "camera"))
