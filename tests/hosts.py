"""The two real hosts at small and full widths: the LDM UNet and the diffusers UNet, randomly initialised."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def ldm_unet(width: int = 32, context: int = 64) -> nn.Module:
    """Stable Diffusion 1.5's UNetModel from the `ldm` package (channels width * 1, 2, 4, 4)."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    return no_zero_weights(
        UNetModel(
            image_size=32,
            in_channels=4,
            out_channels=4,
            model_channels=width,
            attention_resolutions=[4, 2, 1],
            num_res_blocks=2,
            channel_mult=[1, 2, 4, 4],
            num_heads=8,
            use_spatial_transformer=True,
            transformer_depth=1,
            context_dim=context,
            use_checkpoint=False,
            legacy=False,
        )
    )


def diffusers_unet(width: int = 32, context: int = 64) -> nn.Module:
    """Stable Diffusion 1.5's UNet2DConditionModel."""
    from diffusers import UNet2DConditionModel

    widths = (width, 2 * width, 4 * width, 4 * width)
    return no_zero_weights(UNet2DConditionModel(block_out_channels=widths, cross_attention_dim=context))


def no_zero_weights(unet: nn.Module) -> nn.Module:
    """Fill what is initialised to zero, so that every layer reaches the output."""
    for weight in unet.parameters():
        if weight.dim() > 1 and not weight.any():
            nn.init.normal_(weight, std=weight[0].numel() ** -0.5)
    return unet.eval().requires_grad_(False)


def inputs(rows: int, size: tuple[int, int] = (8, 8), context: int = 64, seed: int = 0) -> dict[str, Tensor]:
    """Latents, timesteps and text conditions for a number of rows."""
    generator = torch.Generator().manual_seed(seed)
    return {
        "x": torch.randn(rows, 4, *size, generator=generator),
        "t": torch.full((rows,), 500),
        "context": torch.randn(rows, 5, context, generator=generator),
    }


def call(unet: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """The UNet's output for `inputs`, whichever host it is."""
    if hasattr(unet, "input_blocks"):
        return unet(given["x"], given["t"], context=given["context"])
    return unet(given["x"], given["t"], encoder_hidden_states=given["context"]).sample


HOSTS = {"ldm": ldm_unet, "diffusers": diffusers_unet}
