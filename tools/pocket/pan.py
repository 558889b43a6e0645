"""A motion LoRA: the camera pans, so that everything drifts to the right, whatever it does by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.hosts.diffusers.networks import LoraFile, with_motion_loras
from motion_module import load_motion_module

from .evaluate import animated, score
from .export import load_pipeline
from .gates import Gate
from .motion import RESULT as MOTION
from .recipe import BASE, PanRecipe, Recipe
from .results import load_vae
from .trainer import keep, settings, train_on
from .vae import Vae, in_parts
from .world import FRAMES, MARGIN_BEHIND, SIZE, TRAINED, Concept, Scene, caption, render, scene

RESULT = "pan.safetensors"
SHIFT = 22.0  # pixels over a clip, less than a sprite that moves by itself
STANDING: tuple[Concept, ...] = tuple(concept for concept in TRAINED if concept[2] == "still")


def panned(seed: int, number: int) -> tuple[Scene, Tensor]:
    """A standing sprite seen by a camera that pans: the scene and its frames, f c h w from 0 to 1."""
    shown = scene(seed, number, concepts=STANDING)
    room = SIZE - 2 * MARGIN_BEHIND - SHIFT
    start = MARGIN_BEHIND + (shown.x - MARGIN_BEHIND) / (SIZE - 2 * MARGIN_BEHIND) * room
    places = [(start + SHIFT * frame / (FRAMES - 1), shown.y) for frame in range(FRAMES)]
    return shown, render([shown] * FRAMES, places)


@torch.no_grad()
def encode_clips(vae: Vae, recipe: PanRecipe, seed: int) -> list[tuple[Tensor, str]]:
    """Clips to train on, encoded, with their captions."""
    clips = [panned(seed, number) for number in range(recipe.clips)]
    return [(in_parts(vae.encode, frames).float(), caption(shown.concept)) for shown, frames in clips]


def train_pan(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the motion LoRA on the motion module and write it."""
    clips = encode_clips(load_vae(folder), recipe.pan, recipe.seed)
    more: dict[str, Any] = {"target": "motion-lora", "motion": str(folder / MOTION), "rank": recipe.pan.rank}
    trained = train_on(folder, clips, settings(recipe.pan, folder / "pan", recipe.seed, **more))
    if until is None:
        keep(trained, folder / RESULT, recipe.about(*BASE, "motion", "pan"))


def gate_pan(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check that what stands drifts, further the stronger the LoRA is."""
    del recipe
    pipeline, motion = load_pipeline(folder), load_motion_module(folder / MOTION)
    ways = []
    for strength in (0.0, 0.5, 1.0):
        panning = with_motion_loras(motion, [LoraFile(folder / RESULT, strength)]).motion
        ways.append(score("pan", animated(pipeline, panning), concepts=STANDING[:6], towards="right").displacement)
    return [
        Gate("pan: drift at full strength in pixels", ways[2], SHIFT / 2),
        Gate("pan: drift from none to half", ways[1] - ways[0], 0),
        Gate("pan: drift from half to full", ways[2] - ways[1], 0),
    ]
