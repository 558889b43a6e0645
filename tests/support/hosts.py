"""The real hosts at small and full widths, randomly initialised: LDM's UNet and diffusers', of SD 1.5 and SDXL."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any

import torch
from support.motion_files import Noise
from torch import Tensor, nn

FULL_WIDTH = 320
TIME_ID = 8  # channels of each of the six numbers that tell SDXL sizes
POOLED = 16
VECTOR = 6 * TIME_ID + POOLED


SD15 = {"attention_resolutions": [4, 2, 1], "channel_mult": [1, 2, 4, 4], "num_heads": 8}


def new_ldm_unet(width: int, context: int, **topology: Any) -> nn.Module:
    """A UNetModel from the `ldm` package."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    always = {"image_size": 32, "in_channels": 4, "out_channels": 4, "num_res_blocks": 2, "transformer_depth": 1}
    always |= {"use_spatial_transformer": True, "use_checkpoint": False, "legacy": False}
    return UNetModel(model_channels=width, context_dim=context, **always, **topology)


def ldm_unet(width: int = 32, context: int = 64) -> nn.Module:
    """Stable Diffusion 1.5's (channels width * 1, 2, 4, 4)."""
    make = partial(new_ldm_unet, width, context, **SD15)
    return filled(make) if width >= FULL_WIDTH else no_zero_weights(make())


def diffusers_unet(width: int = 32, context: int = 64) -> nn.Module:
    """Stable Diffusion 1.5's UNet2DConditionModel."""
    from diffusers import UNet2DConditionModel

    widths = (width, 2 * width, 4 * width, 4 * width)
    make = partial(UNet2DConditionModel, block_out_channels=widths, cross_attention_dim=context)
    return filled(make) if width >= FULL_WIDTH else no_zero_weights(make())


def ldm_sdxl_unet(width: int = 32, context: int = 64) -> nn.Module:
    """SDXL's UNet as sgm builds it (channels width * 1, 2, 4; vectors go into the embedding), from LDM's own parts."""
    topology = {"attention_resolutions": [4, 2], "channel_mult": [1, 2, 4], "num_head_channels": 16, "num_classes": 1}
    unet = new_ldm_unet(width, context, **topology, use_linear_in_transformer=True)
    unet.label_emb = nn.Sequential(
        nn.Sequential(nn.Linear(VECTOR, 4 * width), nn.SiLU(), nn.Linear(4 * width, 4 * width))
    )
    return no_zero_weights(unet)


def diffusers_sdxl_unet(width: int = 32, context: int = 64) -> nn.Module:
    """SDXL's UNet2DConditionModel."""
    from diffusers import UNet2DConditionModel

    return no_zero_weights(
        UNet2DConditionModel(
            block_out_channels=(width, 2 * width, 4 * width),
            down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            transformer_layers_per_block=(1, 2, 2),
            attention_head_dim=(2, 4, 8),
            cross_attention_dim=context,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=TIME_ID,
            projection_class_embeddings_input_dim=VECTOR,
        )
    )


def no_zero_weights(unet: nn.Module) -> nn.Module:
    """Fill what is initialised to zero, so that every layer reaches the output."""
    for weight in unet.parameters():
        if weight.dim() > 1 and not weight.any():
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return unet.eval().requires_grad_(False)


def filled(make: Callable[[], nn.Module]) -> nn.Module:
    """The same for a UNet of a billion weights, whose own initialisation would take most of a test's time."""
    with torch.device("meta"):
        unet = make()
    unet.to_empty(device="cpu").requires_grad_(False)
    noise = Noise(0)
    for name, weight in unet.named_parameters():
        drawn = noise.of(tuple(weight.shape))
        if weight.dim() > 1:
            torch.mul(drawn, (3 * prod(weight.shape[1:])) ** -0.5, out=weight)  # as large as torch makes them
        else:
            weight.copy_(0.1 * drawn + name.endswith("weight"))
    return unet.eval()


def inputs(rows: int, size: tuple[int, int] = (8, 8), context: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """Latents, timesteps, text conditions and, for SDXL, pooled ones and sizes for a number of rows."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, 4, *size, generator=generator),
        "t": torch.full((rows,), 500),
        "context": torch.randn(rows, 5, context, generator=generator),
        "pooled": torch.randn(rows, POOLED, generator=generator),
        "sizes": torch.randint(0, 9, (rows, 6), generator=generator),
    }


def call(unet: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """The UNet's output for `inputs`, whichever host it is."""
    if hasattr(unet, "input_blocks"):
        vector = {}
        if unet.num_classes is not None:
            sizes = given["sizes"].repeat_interleave(TIME_ID, 1).to(given["pooled"].dtype)
            vector = {"y": torch.cat([given["pooled"], sizes], 1)}
        return unet(given["x"], given["t"], context=given["context"], **vector)
    vector = {}
    if unet.config.addition_embed_type:
        vector = {"added_cond_kwargs": {"text_embeds": given["pooled"], "time_ids": given["sizes"]}}
    return unet(given["x"], given["t"], encoder_hidden_states=given["context"], **vector).sample


HOSTS = {"ldm": ldm_unet, "diffusers": diffusers_unet}
SDXL_HOSTS = {"ldm": ldm_sdxl_unet, "diffusers": diffusers_sdxl_unet}
