"""Tokenizer and configs of a small Stable Diffusion as a folder, for diffusers without a network."""

from __future__ import annotations

import json
from pathlib import Path

from support.motion_files import SMALL_WIDTHS
from support.webui_real import small_models

PNDM = {
    "_class_name": "PNDMScheduler",
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}


def write_config_folder(folder: Path) -> Path:
    """What a download of Stable Diffusion 1.5's tokenizer and configs leaves, at the widths of `small_models`."""
    from diffusers import AutoencoderKL, UNet2DConditionModel
    from transformers import CLIPImageProcessor

    UNet2DConditionModel(
        sample_size=8, block_out_channels=SMALL_WIDTHS, cross_attention_dim=small_models.CONTEXT_DIM
    ).save_config(folder / "unet")
    AutoencoderKL(
        block_out_channels=SMALL_WIDTHS,
        layers_per_block=2,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        sample_size=64,
    ).save_config(folder / "vae")
    CLIPImageProcessor().save_pretrained(folder / "feature_extractor")
    text_config = small_models.write_tokenizer(folder / "tokenizer") / "config.json"
    (folder / "text_encoder").mkdir()
    text_config.rename(folder / "text_encoder" / "config.json")
    (folder / "scheduler").mkdir()
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(PNDM))
    index = {
        "_class_name": "StableDiffusionPipeline",
        "feature_extractor": ["transformers", "CLIPImageProcessor"],
        "safety_checker": ["stable_diffusion", "StableDiffusionSafetyChecker"],
        "scheduler": ["diffusers", "PNDMScheduler"],
        "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"],
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder
