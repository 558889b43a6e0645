"""Two personalised models, as people have them: a LoRA in one style, a fine-tune of the whole UNet in another.

The captions stay the world's; the style comes with the weights. Both learn from stills only and never meet a motion
module, and both stay mild: a heavy fine-tune forgets headings, and then no motion module can move it.
"""

from __future__ import annotations

from pathlib import Path

from torch import nn

from tools.pocket import kohya
from tools.pocket.base import new_unet
from tools.pocket.export import UNET_PREFIX
from tools.pocket.loop import Plan, load, save, warm_cosine

from . import workers
from .base import PARTS, load_unet, loss
from .export import VILLAGE, write_checkpoint
from .latents import encode_style, load_style_clips
from .recipe import Recipe, StyleRecipe
from .text import load_encoder

LORA = "style-lora"
FINE_TUNED = "fine-tuned"
LORA_RESULT = f"{LORA}.safetensors"
FINE_TUNED_RESULT = f"{FINE_TUNED}.safetensors"
STARTS_AT = 10**6  # the draws of these steps are none of the base model's


def encode_lora_clips(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Encode what the LoRA learns from."""
    encode_style(recipe, folder, "lora", until)


def encode_fine_tune_clips(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Encode what the fine-tune learns from."""
    encode_style(recipe, folder, "fine_tune", until)


def train_lora(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the LoRA on the frozen base and write it in kohya's format."""
    how, unet = recipe.lora, load_unet(folder)
    added = kohya.add(unet, how.rank, how.alpha, recipe.seed)
    if _learn(unet, recipe, "lora", LORA, folder, until):
        metadata = kohya.about(f"{VILLAGE.name}-{how.style}", how.rank, how.alpha)
        save(folder / LORA_RESULT, kohya.tensors(added), recipe.about(*PARTS, "lora"), **metadata)
        (folder / f"{LORA}.state").unlink()


def fine_tune(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train every weight of the UNet a little and write a second checkpoint."""
    unet = load_unet(folder).requires_grad_(True)
    if _learn(unet, recipe, "fine_tune", FINE_TUNED, folder, until):
        write_checkpoint(recipe, folder, unet, FINE_TUNED, more=("fine_tune",))
        (folder / f"{FINE_TUNED}.state").unlink()


def _learn(unet: nn.Module, recipe: Recipe, part: str, name: str, folder: Path, until: int | None) -> bool:
    """Train what asks for gradients on stills of the style; True in the process that writes the result."""
    how: StyleRecipe = getattr(recipe, part)
    clips, encoder = load_style_clips(recipe, folder, part), load_encoder(recipe, folder)
    plan = Plan(name, how.steps, warm_cosine(how.rate, how.steps, how.warm_up), how.average)
    return workers.train(
        unet,
        lambda step: loss(unet, clips, encoder, how, recipe.seed, STARTS_AT + step),
        plan,
        folder / f"{name}.state",
        until,
    )


def load_styled(folder: Path, strength: float = 1.0) -> nn.Module:
    """The base model's UNet with the LoRA's file added."""
    unet = load_unet(folder)
    kohya.merge(unet, load(folder / LORA_RESULT)[0], strength)
    return unet


def load_fine_tuned(folder: Path) -> nn.Module:
    """The second checkpoint's UNet."""
    content, _ = load(folder / FINE_TUNED_RESULT)
    unet = new_unet(0)
    unet.load_state_dict(
        {name.removeprefix(UNET_PREFIX): weight for name, weight in content.items() if name.startswith(UNET_PREFIX)}
    )
    return unet.eval().requires_grad_(False)
