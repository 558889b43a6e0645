"""A small random Stable Diffusion 2 checkpoint: OpenCLIP's text encoder, linear projections, v-prediction."""

from __future__ import annotations

import json
from pathlib import Path

from safetensors.torch import save_file
from support.webui_real.small_models import UNET, VAE, alphas_cumprod, checkpoint_config, prepared, random_tensors
from support.webui_real.small_sdxl import OPEN_CLIP, OPEN_CLIP_LAYERS, OPEN_CLIP_TOKENS, OPEN_CLIP_WIDTH
from support.webui_real.small_shapes import UnetShape, open_clip_shapes, unet_shapes, vae_shapes
from support.webui_real.small_text import CLIP_POSITIONS

TEXT = "cond_stage_model.model."


def sd2_config() -> dict:
    config = checkpoint_config(Path())
    params = config["model"]["params"]
    params["parameterization"] = "v"
    params["unet_config"]["params"] |= {"context_dim": OPEN_CLIP_WIDTH, "use_linear_in_transformer": True}
    params["cond_stage_config"] = {
        "target": "ldm.modules.encoders.modules.FrozenOpenCLIPEmbedder",
        "params": {"arch": OPEN_CLIP, "layer": "penultimate"},
    }
    return config


def write_sd2_checkpoint(folder: Path, name: str = "small_sd2", seed: int = 0) -> Path:
    path = prepared(folder, f"{name}.safetensors")
    text = open_clip_shapes(OPEN_CLIP_WIDTH, OPEN_CLIP_LAYERS, CLIP_POSITIONS, OPEN_CLIP_TOKENS)
    shape = UnetShape(context=OPEN_CLIP_WIDTH, linear_projections=True)
    tensors = random_tensors({UNET: unet_shapes(shape), VAE: vae_shapes(), TEXT: text}, seed)
    tensors["alphas_cumprod"] = alphas_cumprod()
    save_file(tensors, path)
    path.with_suffix(".yaml").write_text(json.dumps(sd2_config(), indent=2), encoding="utf-8")
    return path
