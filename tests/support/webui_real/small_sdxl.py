"""A small random SDXL checkpoint: the UNet's levels and depths, two text encoders and size conditions, all narrow."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from support.webui_real.small_models import UNET, VAE, prepared, random_tensors, vae_config
from support.webui_real.small_shapes import (
    LATENT_CHANNELS,
    MODEL_CHANNELS,
    NUM_RES_BLOCKS,
    UnetShape,
    clip_shapes,
    open_clip_shapes,
    unet_shapes,
    vae_shapes,
)
from support.webui_real.small_text import CLIP_POSITIONS, CONTEXT_DIM, write_tokenizer

NO_DOWNLOAD = {"show_progress_type": "Approx cheap"}  # SDXL's approximate decoder for live previews is not at hand
OPEN_CLIP = "ViT-S-32-alt"
# The WebUI builds the second text encoder from its name and tokenizes with OpenCLIP's own vocabulary.
OPEN_CLIP_WIDTH = 256
OPEN_CLIP_LAYERS = 10
OPEN_CLIP_TOKENS = 49408
SIZE_DIM = 32
SIZES = ("original_size_as_tuple", "crop_coords_top_left", "target_size_as_tuple")
FIRST_TEXT = "conditioner.embedders.0.transformer.text_model."
SECOND_TEXT = "conditioner.embedders.1.model."

SHAPE = UnetShape(
    channel_mult=(1, 2, 4),
    depths=(0, 2, 3),  # SDXL's are 0, 2 and 10
    middle_depth=3,
    context=CONTEXT_DIM + OPEN_CLIP_WIDTH,
    linear_projections=True,
    label=OPEN_CLIP_WIDTH + len(SIZES) * 2 * SIZE_DIM,
)


def sdxl_config(tokenizer: Path) -> dict:
    sgm = "sgm.modules.diffusionmodules"
    unet = {
        "adm_in_channels": SHAPE.label,
        "num_classes": "sequential",
        "in_channels": LATENT_CHANNELS,
        "out_channels": LATENT_CHANNELS,
        "model_channels": MODEL_CHANNELS,
        "attention_resolutions": [4, 2],
        "num_res_blocks": NUM_RES_BLOCKS,
        "channel_mult": list(SHAPE.channel_mult),
        "num_head_channels": 16,
        "use_spatial_transformer": True,
        "use_linear_in_transformer": True,
        "transformer_depth": [1, *SHAPE.depths[1:]],
        "context_dim": SHAPE.context,
        "spatial_transformer_attn_type": "softmax-xformers",
        "legacy": False,
    }
    texts = [
        {
            "target": "sgm.modules.encoders.modules.FrozenCLIPEmbedder",
            "params": {"version": str(Path(tokenizer).absolute()), "layer": "hidden", "layer_idx": 1},
        },
        {
            "target": "sgm.modules.encoders.modules.FrozenOpenCLIPEmbedder2",
            "params": {"arch": OPEN_CLIP, "layer": "penultimate", "always_return_pooled": True, "legacy": False},
        },
    ]
    size = {"target": "sgm.modules.encoders.modules.ConcatTimestepEmbedderND", "params": {"outdim": SIZE_DIM}}
    embedders = [{"input_key": "txt", **text} for text in texts] + [{"input_key": name, **size} for name in SIZES]
    params = {
        "scale_factor": 0.13025,
        "disable_first_stage_autocast": True,
        "denoiser_config": {
            "target": f"{sgm}.denoiser.DiscreteDenoiser",
            "params": {
                "num_idx": 1000,
                "weighting_config": {"target": f"{sgm}.denoiser_weighting.EpsWeighting"},
                "scaling_config": {"target": f"{sgm}.denoiser_scaling.EpsScaling"},
                "discretization_config": {"target": f"{sgm}.discretizer.LegacyDDPMDiscretization"},
            },
        },
        "network_config": {"target": f"{sgm}.openaimodel.UNetModel", "params": unet},
        "conditioner_config": {
            "target": "sgm.modules.GeneralConditioner",
            "params": {"emb_models": [{"is_trainable": False, **embedder} for embedder in embedders]},
        },
        "first_stage_config": vae_config("sgm.models.autoencoder.AutoencoderKLInferenceWrapper"),
    }
    return {"model": {"target": "sgm.models.diffusion.DiffusionEngine", "params": params}}


def write_sdxl_checkpoint(folder: Path, name: str = "small_sdxl", seed: int = 0) -> Path:
    """Writes `<name>.safetensors`, `<name>.yaml` and the first encoder's tokenizer; returns the checkpoint's path."""
    path = prepared(folder, f"{name}.safetensors")
    second = open_clip_shapes(OPEN_CLIP_WIDTH, OPEN_CLIP_LAYERS, CLIP_POSITIONS, OPEN_CLIP_TOKENS)
    parts = {UNET: unet_shapes(SHAPE), VAE: vae_shapes(), FIRST_TEXT: clip_shapes(), SECOND_TEXT: second}
    save_file(random_tensors(parts, seed), path)
    config = sdxl_config(write_tokenizer(path.with_name(f"{name}_clip")))
    path.with_suffix(".yaml").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return path
