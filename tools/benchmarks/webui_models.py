"""A Stable Diffusion 1.5 checkpoint and a v2 motion module at full widths with random weights, for a real WebUI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from lib_animatediff.training.export import state_with_tables

from .peers import motion_of

CHECKPOINT = "sd15-random.safetensors"
MOTION = "mm_sd_v15_v2-random.safetensors"
TEXT_WIDTH, TEXT_LAYERS, TEXT_HEADS = 768, 2, 12  # the text encoder's depth hardly counts beside the UNet
TEXT = "cond_stage_model.transformer.text_model."
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 2, 4, 4],
    "num_heads": 8,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": TEXT_WIDTH,
    "use_checkpoint": False,
    "legacy": False,
}
VAE: dict[str, Any] = {
    "double_z": True,
    "z_channels": 4,
    "resolution": 256,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 128,
    "ch_mult": [1, 2, 4, 4],
    "num_res_blocks": 2,
    "attn_resolutions": [],
    "dropout": 0.0,
}


def write_checkpoint(folder: Path) -> Path:
    """Write the checkpoint, its configuration and a tokenizer of few words; returns the checkpoint's path."""
    from ldm.modules.diffusionmodules.model import Decoder, Encoder
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
    from support.webui_real.small_models import alphas_cumprod, checkpoint_config
    from support.webui_real.small_text import CLIP_POSITIONS, write_tokenizer

    torch.manual_seed(0)
    tokenizer = write_tokenizer(folder / f"{Path(CHECKPOINT).stem}_clip")
    text = _text_encoder(tokenizer)
    parts: dict[str, nn.Module] = {
        "model.diffusion_model.": UNetModel(**UNET),
        "first_stage_model.encoder.": Encoder(**VAE),
        "first_stage_model.decoder.": Decoder(**VAE),
        "first_stage_model.quant_conv.": nn.Conv2d(8, 8, 1),
        "first_stage_model.post_quant_conv.": nn.Conv2d(4, 4, 1),
        TEXT: getattr(text, "text_model", text),  # newer releases of transformers leave that part out
    }
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor for prefix, part in parts.items() for name, tensor in _half(prefix, part)}
    tensors[f"{TEXT}embeddings.position_ids"] = torch.arange(CLIP_POSITIONS).unsqueeze(0)
    save_file({**tensors, "alphas_cumprod": alphas_cumprod()}, folder / CHECKPOINT)
    config = checkpoint_config(tokenizer)
    model = config["model"]["params"]
    model["unet_config"]["params"] = UNET
    model["first_stage_config"]["params"]["ddconfig"] = VAE
    (folder / CHECKPOINT).with_suffix(".yaml").write_text(json.dumps(config, indent=2), encoding="utf-8")
    return folder / CHECKPOINT


def write_controlnet(path: Path) -> Path:
    """Write a ControlNet in the names of ControlNet 1.1; returns its path."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel
    from support.control_files import controlnet_state

    torch.manual_seed(1)
    path.parent.mkdir(parents=True, exist_ok=True)
    state = controlnet_state(UNetModel(**UNET), gain=0.1)
    save_file({name: tensor.half().contiguous() for name, tensor in state.items()}, path)
    return path


def write_motion(folder: Path) -> Path:
    """Write the motion module in the official names; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    save_file({name: tensor.half() for name, tensor in state_with_tables(motion_of("v2")).items()}, folder / MOTION)
    return folder / MOTION


def _half(prefix: str, part: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Weights in half precision. What begins at zero gets values, as trained weights have them.

    The WebUI divides the prompt's conditioning by its mean, which is 0 behind a norm without bias.
    """
    for name, tensor in part.state_dict().items():
        is_zero = tensor.is_floating_point() and not tensor.any()
        value = torch.randn_like(tensor) * 0.02 if is_zero else tensor
        yield prefix + name, value.half() if value.is_floating_point() else value


def _text_encoder(tokenizer: Path) -> nn.Module:
    from transformers import CLIPTextConfig, CLIPTextModel

    path = tokenizer / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config |= {
        "hidden_size": TEXT_WIDTH,
        "intermediate_size": 4 * TEXT_WIDTH,
        "projection_dim": TEXT_WIDTH,
        "num_hidden_layers": TEXT_LAYERS,
        "num_attention_heads": TEXT_HEADS,
    }
    path.write_text(json.dumps(config, indent=2), encoding="utf-8")
    encoder: nn.Module = CLIPTextModel(CLIPTextConfig(**config))
    return encoder
