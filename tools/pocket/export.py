"""The trained model as files: a Stable Diffusion 1 checkpoint for the WebUI and a folder of configs for diffusers."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import text
from .base import BETAS, CHANNELS, HEADS, TRAINING_STEPS, UNET, alphas_cumprod
from .loop import replacing, save
from .recipe import BASE, Recipe
from .sampling import CFG, STEPS
from .vae import DDCONFIG, LATENT_CHANNELS, PIXELS_PER_LATENT, SCALE_FACTOR, Vae
from .world import SIZE, Concept, caption

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIX = "cond_stage_model.transformer.text_model."
LEVELS = len(UNET["channel_mult"])
SCHEDULE = {"beta_start": BETAS[0], "beta_end": BETAS[1], "beta_schedule": "scaled_linear"}


@dataclass(frozen=True)
class Design:
    """What tells one small model's files from another's.

    Attributes:
        name: of the checkpoint.
        size: of its pictures, in pixels.
        vae: its configuration, as `ldm` takes it.
        words: those that its text encoder knows.
    """

    name: str
    size: int
    vae: Mapping[str, Any]
    words: Sequence[str]


POCKET = Design("pocket", SIZE, DDCONFIG, tuple(text.known_words()))
NAME = POCKET.name


def export(folder: Path, unet: nn.Module, vae: Vae, recipe: Recipe, name: str = NAME, more: Sequence[str] = ()) -> Path:
    """Write `<name>.safetensors`, `<name>.yaml` and `config`, the folder for diffusers; returns the checkpoint.

    Args:
        folder: where to.
        unet: trained.
        vae: trained.
        recipe: what both were made by.
        name: of the checkpoint.
        more: names of the recipe's parts that this checkpoint depends on, besides those of the base model.
    """
    write_configs(folder, POCKET, name)
    path = folder / f"{name}.safetensors"
    save(path, checkpoint(unet, vae, recipe.seed, POCKET), recipe.about(*BASE, "decoder", *more))
    return path


def write_configs(folder: Path, design: Design, name: str = "") -> None:
    """Write what the WebUI and diffusers read beside a checkpoint: `<name>.yaml` and `config`."""
    config = write_config(folder / "config", design)
    # JSON is YAML: no yaml package is needed to write it
    _write_json(folder / f"{name or design.name}.yaml", webui_config(config / "tokenizer", design))


def checkpoint(unet: nn.Module, vae: Vae, seed: int, design: Design) -> dict[str, Tensor]:
    """The whole model in half precision under Stable Diffusion's names."""
    encoder = text.weights(seed, design.words)
    parts = ((UNET_PREFIX, unet.state_dict()), (VAE_PREFIX, vae.state_dict()), (TEXT_PREFIX, encoder))
    tensors = {prefix + name: weight.half() for prefix, weights in parts for name, weight in weights.items()}
    tensors[f"{TEXT_PREFIX}embeddings.position_ids"] = torch.arange(text.POSITIONS)[None]
    tensors["alphas_cumprod"] = alphas_cumprod()  # the WebUI takes the schedule from here
    return tensors


def webui_config(tokenizer: Path, design: Design) -> dict[str, Any]:
    """What the WebUI reads beside the checkpoint; it finds the tokenizer by its full path."""
    params = {
        "linear_start": BETAS[0],
        "linear_end": BETAS[1],
        "num_timesteps_cond": 1,
        "log_every_t": 200,
        "timesteps": TRAINING_STEPS,
        "first_stage_key": "jpg",
        "cond_stage_key": "txt",
        "image_size": design.size,
        "channels": LATENT_CHANNELS,
        "cond_stage_trainable": False,
        "conditioning_key": "crossattn",
        "monitor": "val/loss_simple_ema",
        "scale_factor": SCALE_FACTOR,
        "use_ema": False,
        "unet_config": {"target": "ldm.modules.diffusionmodules.openaimodel.UNetModel", "params": UNET},
        "first_stage_config": {
            "target": "ldm.models.autoencoder.AutoencoderKL",
            "params": {
                "embed_dim": LATENT_CHANNELS,
                "monitor": "val/rec_loss",
                "ddconfig": dict(design.vae),
                "lossconfig": {"target": "torch.nn.Identity"},
            },
        },
        "cond_stage_config": {
            "target": "ldm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(tokenizer.absolute())},
        },
    }
    return {"model": {"target": "ldm.models.diffusion.ddpm.LatentDiffusion", "params": params}}


def write_config(folder: Path, design: Design) -> Path:
    """Write what diffusers needs to load the checkpoint offline: one folder of configs, and the tokenizer."""
    text.write_tokenizer(folder / "tokenizer")
    _write_json(folder / "tokenizer" / "config.json", text.config())  # the WebUI looks for it here
    for part, config in diffusers_configs(design).items():
        _write_json(folder / part, config)
    return folder


def diffusers_configs(design: Design) -> dict[str, dict[str, Any]]:
    """The configs of a diffusers model folder."""
    attention = LEVELS - 1  # the lowest level has none
    return {
        "model_index.json": {
            "_class_name": "StableDiffusionPipeline",
            "feature_extractor": [None, None],
            "image_encoder": [None, None],
            "requires_safety_checker": False,
            "safety_checker": [None, None],
            "scheduler": ["diffusers", "DDIMScheduler"],
            "text_encoder": ["transformers", "CLIPTextModel"],
            "tokenizer": ["transformers", "CLIPTokenizer"],
            "unet": ["diffusers", "UNet2DConditionModel"],
            "vae": ["diffusers", "AutoencoderKL"],
        },
        "scheduler/scheduler_config.json": {
            "_class_name": "DDIMScheduler",
            **SCHEDULE,
            "num_train_timesteps": TRAINING_STEPS,
            "clip_sample": False,
            "set_alpha_to_one": False,
            "steps_offset": 1,
        },
        "text_encoder/config.json": text.config(),
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel",
            "sample_size": design.size // PIXELS_PER_LATENT,
            "in_channels": LATENT_CHANNELS,
            "out_channels": LATENT_CHANNELS,
            "block_out_channels": [CHANNELS] * LEVELS,
            "layers_per_block": UNET["num_res_blocks"],
            "down_block_types": ["CrossAttnDownBlock2D"] * attention + ["DownBlock2D"],
            "up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * attention,
            "attention_head_dim": HEADS,  # diffusers' name for the number of heads
            "cross_attention_dim": text.WIDTH,
        },
        "vae/config.json": {
            "_class_name": "AutoencoderKL",
            "sample_size": design.size,
            "latent_channels": LATENT_CHANNELS,
            "block_out_channels": [design.vae["ch"] * factor for factor in design.vae["ch_mult"]],
            "layers_per_block": design.vae["num_res_blocks"],
            "down_block_types": ["DownEncoderBlock2D"] * len(design.vae["ch_mult"]),
            "up_block_types": ["UpDecoderBlock2D"] * len(design.vae["ch_mult"]),
            "scaling_factor": SCALE_FACTOR,
        },
    }


def load_pipeline(folder: Path, name: str = NAME) -> Any:
    """The written checkpoint as a diffusers pipeline, without a network."""
    from diffusers import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline.from_single_file(
        str(folder / f"{name}.safetensors"),
        config=str(folder / "config"),
        local_files_only=True,
        torch_dtype=torch.float32,
        safety_checker=None,
    )
    pipeline.set_progress_bar_config(disable=True)
    pipeline.vae.enable_slicing()  # one picture at a time, as a clip's frames are decoded: to the last bit the same
    return pipeline


def export_paint(folder: Path) -> Any:
    """Paint with the written checkpoint, see `gates.Paint`."""
    pipeline = load_pipeline(folder)

    def paint(concepts: Sequence[Concept], seed: int) -> Tensor:
        return sample(pipeline, [caption(concept) for concept in concepts], seed)

    return paint


def sample(pipeline: Any, prompts: Sequence[str], seed: int, size: int = SIZE) -> Tensor:
    """Pictures of prompts, n c h w from 0 to 1."""
    pictures: Tensor = pipeline(
        list(prompts),
        height=size,
        width=size,
        num_inference_steps=STEPS,
        guidance_scale=CFG,
        generator=torch.Generator().manual_seed(seed),
        output_type="pt",
    ).images
    return pictures


def _write_json(path: Path, content: dict[str, Any]) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text(json.dumps(content, indent=2), encoding="utf-8")
