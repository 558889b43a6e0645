"""Two personalised models in the second style, as people have them: a LoRA, and a fine-tune of the whole UNet.

The captions stay the world's; the style comes with the weights. Both learn from stills only and never meet a motion
module, and both stay mild: a heavy fine-tune forgets headings, and then no motion module can move it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from . import base, kohya, latents
from .base import new_unet
from .export import NAME, UNET_PREFIX, export
from .gates import ERROR_STILLS, GATE_SEED, ROWS, Gate, errors, fresh, painter
from .loop import Plan, load, save, train, warm_cosine
from .measure import read
from .pictures import sheet
from .recipe import BASE, Recipe, StillsRecipe
from .results import load_conditions, load_first_vae, load_unet, load_vae
from .vae import in_parts
from .world import CONCEPTS

LATENTS = "style-latents"
LORA = "style-lora"
FINE_TUNE = "fine-tune"
FINE_TUNED = f"{NAME}-lilac"

SAMPLES = 80
# Shares of the samples; the look is colour and shape. Not higher on purpose: with twice the steps and twice the noise
# offset every still has the style (1.00), but only 42 % of the clips keep their heading under the motion module.
STYLE, HEADING, LOOK = 0.9, 0.95, 0.85
# Error of the predicted clean latents at a timestep, as a share of the data's variance.
ERRORS = {500: 0.10, 700: 0.35, 900: 0.90}


def encode_style(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Encode clips of the style and write them."""
    state = folder / f"{LATENTS}.state"
    scenes = latents.scenes(recipe.style.clips, recipe.seed, recipe.style.name)
    encoded = latents.encode_all(load_first_vae(folder), scenes, state, recipe.latents.bfloat16, until)
    if encoded is None:
        return
    content = {"latents": encoded, "concepts": latents.numbers(scenes)}
    save(folder / f"{LATENTS}.safetensors", content, recipe.about("vae", "latents", "style"))
    state.unlink()


def train_style_lora(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the LoRA on the frozen base and write it in kohya's format."""
    how = recipe.style_lora
    unet = load_unet(folder)
    added = kohya.add(unet, how.rank, how.alpha, recipe.seed)
    state = folder / f"{LORA}.state"
    if not _learn(unet, recipe, how, LORA, folder, state, until):
        return
    about = recipe.about(*BASE, "style", "style_lora")
    metadata = kohya.about(f"{NAME}-{recipe.style.name}", how.rank, how.alpha)
    save(folder / f"{LORA}.safetensors", kohya.tensors(added), about, **metadata)
    state.unlink()


def fine_tune(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train every weight of the UNet a little and write a second checkpoint."""
    unet = load_unet(folder).requires_grad_(True)
    state = folder / f"{FINE_TUNE}.state"
    if not _learn(unet, recipe, recipe.fine_tune, FINE_TUNE, folder, state, until):
        return
    export(folder, unet, load_vae(folder), recipe, FINE_TUNED, more=("style", "fine_tune"))
    state.unlink()


def _learn(
    unet: nn.Module,
    recipe: Recipe,
    how: StillsRecipe,
    name: str,
    folder: Path,
    state: Path,
    until: int | None,
) -> bool:
    """Train what asks for gradients on stills of the style; True when all steps are done."""
    clips = latents.load_clips(folder / f"{LATENTS}.safetensors")
    conditions = load_conditions(recipe, folder)
    # Noise with an offset, as is usual for another brightness: without it, the ground that the first sampling steps
    # leave, half plain and half the style, is taken for granted by all later ones.
    figures = replace(
        recipe.base, batch=how.batch, empty_captions=how.empty_captions, largest_weight=how.largest_weight
    )
    plan = Plan(name, how.steps, warm_cosine(how.rate, how.steps, how.warm_up), how.average)

    def loss(step: int) -> Tensor:
        # The draws go on where the base model's ended: none of them comes again, and all tokens are seen.
        number = recipe.base.steps + step
        return base.loss(
            unet, clips.latents, clips.concepts, conditions, figures, recipe.seed, number, how.noise_offset
        )

    return train(unet, loss, plan, state, until)


def load_styled(folder: Path, strength: float = 1.0) -> nn.Module:
    """The base model's UNet with the LoRA's file added."""
    unet = load_unet(folder)
    kohya.merge(unet, load(folder / f"{LORA}.safetensors")[0], strength)
    return unet


def load_fine_tuned(folder: Path) -> nn.Module:
    """The second checkpoint's UNet."""
    content, _ = load(folder / f"{FINE_TUNED}.safetensors")
    unet = new_unet(0)
    unet.load_state_dict(
        {name.removeprefix(UNET_PREFIX): weight for name, weight in content.items() if name.startswith(UNET_PREFIX)}
    )
    return unet.eval().requires_grad_(False)


def gate_latents(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the spread that the UNet will see; the latents were whitened for the other style."""
    del recipe
    size = float(latents.load_clips(folder / f"{LATENTS}.safetensors").latents.std())
    return [Gate(f"{LATENTS}: standard deviation", size, 0.7), Gate(f"{LATENTS}: standard deviation", size, 2.0, False)]


def gate_style_lora(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples and errors of the base model with the LoRA's file at full strength."""
    return style_gates(LORA, load_styled(folder), recipe, folder)


def gate_fine_tune(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples and errors of the second checkpoint."""
    return style_gates(FINE_TUNE, load_fine_tuned(folder), recipe, folder)


def style_gates(name: str, unet: nn.Module, recipe: Recipe, folder: Path) -> list[Gate]:
    """Samples of every caption: the style shows, and nothing that the caption says is lost; and errors."""
    style = recipe.style.name
    vae, conditions = load_vae(folder), load_conditions(recipe, folder)
    shuffled = random.Random(recipe.seed).sample(CONCEPTS, len(CONCEPTS))
    asked = list(itertools.islice(itertools.cycle(shuffled), SAMPLES))
    painted = painter(unet, vae, conditions)(asked, GATE_SEED + recipe.seed)
    sheet(painted.view(-1, ROWS, *painted.shape[1:]), folder / "sheets" / f"{name}.png")
    shown = [(read(picture), concept) for picture, concept in zip(painted, asked, strict=True)]
    gates = [
        Gate(f"{name}: style shown in {SAMPLES} samples", share(r.style == style for r, _ in shown), STYLE),
        Gate(f"{name}: heading right", share(r.found and r.concept[2] == c[2] for r, c in shown), HEADING),
        Gate(f"{name}: colour and shape right", share(r.found and r.concept[:2] == c[:2] for r, c in shown), LOOK),
    ]
    concepts, stills = fresh(recipe.seed, style, ERROR_STILLS)
    with torch.no_grad():
        clean = in_parts(vae.encode, stills)
    numbers = torch.tensor([CONCEPTS.index(concept) for concept in concepts])
    for t, error in errors(unet, clean, conditions.plain(numbers), ERRORS).items():
        gates.append(Gate(f"{name}: error at t={t}, of the variance", error, ERRORS[t], at_least=False))
    return gates


def share(found: Iterable[bool]) -> float:
    """How many of them hold, of 1."""
    each = list(found)
    return sum(each) / len(each)
