"""The stages of the pocket model, in order: each writes one result, and its gate says whether to go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from . import base as base_stage
from . import control, fast, motion, pan, sparse, style
from . import latents as latents_stage
from . import vae as vae_stage
from .base import new_unet
from .building import SHEETS, Stage, run_stages
from .export import export, export_paint
from .gates import EXPORT_RIGHT, EXPORT_SAMPLES, Gate, base_gates, sample_gate, vae_gates
from .loop import Plan, save, stream, train, warm_cosine
from .recipe import BASE, Recipe
from .results import load_conditions, load_first_vae, load_unet, load_vae
from .vae import new_vae
from .world import CONCEPTS


def train_vae(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the VAE and write it."""
    model = new_vae(recipe.seed)
    plan = Plan("vae", recipe.vae.steps, lambda step: vae_stage.rate(recipe.vae, step), recipe.vae.average)
    state = folder / "vae.state"
    if not train(model, lambda step: vae_stage.loss(model, recipe.vae, recipe.seed, step), plan, state, until):
        return
    shown = vae_stage.pictures(stream(recipe.seed, "whitening"), recipe.vae.styles, recipe.vae.whitening)
    vae_stage.whiten(model, shown[::2])  # every second one is plain, and the base model sees no other
    save(folder / "vae.safetensors", model.state_dict(), recipe.about("vae"))
    state.unlink()


def train_decoder(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Teach the VAE's decoder the second style and write the decoder."""
    vae, how = load_first_vae(folder), recipe.decoder
    vae.decoder.requires_grad_(True)
    plan = Plan("decoder", how.steps, warm_cosine(how.rate, how.steps, vae_stage.WARM_UP), how.average)
    state = folder / "decoder.state"
    if not train(vae, lambda step: vae_stage.decoder_loss(vae, how, recipe.seed, step), plan, state, until):
        return
    save(folder / "decoder.safetensors", vae.decoder.state_dict(), recipe.about("vae", "decoder"))
    state.unlink()


def encode_clips(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Encode the training clips and write them."""
    state = folder / "latents.state"
    scenes = latents_stage.scenes(recipe.latents.clips, recipe.seed, "plain")
    latents = latents_stage.encode_all(load_first_vae(folder), scenes, state, recipe.latents.bfloat16, until)
    if latents is None:
        return
    tensors = {"latents": latents, "concepts": latents_stage.numbers(scenes)}
    save(folder / "latents.safetensors", tensors, recipe.about("vae", "latents"))
    state.unlink()


def train_base(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the UNet and write it."""
    unet = new_unet(recipe.seed)
    clips = latents_stage.load_clips(folder / "latents.safetensors")
    conditions = load_conditions(recipe, folder)
    rate = warm_cosine(recipe.base.rate, recipe.base.steps, recipe.base.warm_up)
    plan = Plan("base", recipe.base.steps, rate, recipe.base.average)
    state = folder / "base.state"

    def loss(step: int) -> torch.Tensor:
        return base_stage.loss(unet, clips.latents, clips.concepts, conditions, recipe.base, recipe.seed, step)

    if not train(unet, loss, plan, state, until):
        return
    save(folder / "base.safetensors", unet.state_dict(), recipe.about(*BASE))
    state.unlink()


def export_pocket(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Write the checkpoint and its configurations."""
    del until  # it is done at once
    export(folder, load_unet(folder), load_vae(folder), recipe)


def gate_vae(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the VAE on scenes that it did not see."""
    return vae_gates(load_first_vae(folder), recipe.vae.styles, recipe.seed, folder / SHEETS / "vae.png")


def gate_decoder(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the VAE with its second decoder."""
    return vae_gates(load_vae(folder), recipe.decoder.styles, recipe.seed, folder / SHEETS / "decoder.png")


def gate_latents(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the spread that the UNet will see."""
    del recipe
    latents = latents_stage.load_clips(folder / "latents.safetensors").latents
    size = float(latents.std())
    return [Gate("latents: standard deviation", size, 0.9), Gate("latents: standard deviation", size, 1.1, False)]


def gate_base(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples and errors of the UNet."""
    conditions = load_conditions(recipe, folder)
    return base_gates(load_unet(folder), load_vae(folder), conditions, recipe.seed, folder / SHEETS / "base.png")


def gate_export(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the written checkpoint through diffusers."""
    paint = export_paint(folder)
    picture = folder / SHEETS / "diffusers.png"
    return [sample_gate("diffusers", paint, CONCEPTS, EXPORT_SAMPLES, EXPORT_RIGHT, recipe.seed, picture)]


STAGES = (
    Stage("vae", "vae.safetensors", ("vae",), train_vae, gate_vae),
    Stage("decoder", "decoder.safetensors", ("vae", "decoder"), train_decoder, gate_decoder),
    Stage("latents", "latents.safetensors", ("vae", "latents"), encode_clips, gate_latents),
    Stage("base", "base.safetensors", BASE, train_base, gate_base),
    Stage("export", "pocket.safetensors", (*BASE, "decoder"), export_pocket, gate_export),
    Stage(
        "style-latents",
        f"{style.LATENTS}.safetensors",
        ("vae", "latents", "style"),
        style.encode_style,
        style.gate_latents,
    ),
    Stage(
        "style-lora",
        f"{style.LORA}.safetensors",
        (*BASE, "style", "style_lora"),
        style.train_style_lora,
        style.gate_style_lora,
    ),
    Stage(
        "fine-tune",
        f"{style.FINE_TUNED}.safetensors",
        (*BASE, "decoder", "style", "fine_tune"),
        style.fine_tune,
        style.gate_fine_tune,
    ),
    Stage("motion", motion.RESULT, (*BASE, "motion"), motion.train_motion, motion.gate_motion),
    Stage("fast", fast.RESULT, (*BASE, "motion", "fast"), fast.train_fast, fast.gate_fast),
    Stage("pan", pan.RESULT, (*BASE, "motion", "pan"), pan.train_pan, pan.gate_pan),
    Stage("control", control.RESULT, (*BASE, "control"), control.train_control, control.gate_control),
    Stage("sparse", sparse.RESULT, (*BASE, "motion", "sparse"), sparse.train_sparse, sparse.gate_sparse),
)


def build(
    recipe: Recipe,
    folder: Path,
    last: str = STAGES[-1].name,
    *,
    gates: bool = True,
    say: Callable[[str], None] = print,
    until: int | None = None,
) -> None:
    """Run the pocket model's stages, see `run_stages`."""
    run_stages(STAGES, recipe, folder, last, gates=gates, say=say, until=until)
