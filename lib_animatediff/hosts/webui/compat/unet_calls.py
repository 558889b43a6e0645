"""Calls of the checkpoint's UNet outside a sampler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_VELOCITY = "v"


def predicts_velocity(sd_model: Any) -> bool:
    """Whether the checkpoint's UNet predicts velocities; otherwise it predicts noise."""
    return getattr(sd_model, "parameterization", None) == _VELOCITY


def timestep_of(params: Any) -> float:
    """The timestep of the denoiser's next call, read from the device once.

    Args:
        params: of the hook before the call.
    """
    sigma, model = params.sigma[:1], params.denoiser.inner_model
    # k-diffusion's samplers know noise levels; those of the DDIM family pass timesteps under the same name.
    timestep = model.sigma_to_t(sigma) if hasattr(model, "sigma_to_t") else sigma
    return float(timestep[0])


def predicted(p: Any, latents: Tensor, timestep: float, conditions: Any, images: Tensor | None = None) -> Tensor:
    """What the UNet predicts of latents ``n c h w`` at a timestep, without CFG.

    Args:
        conditions: one for each of them; SDXL's are a dict.
        images: what an inpainting checkpoint sees of each, or of all; None: everything may change.
    """
    if images is None:
        images = p.txt2img_image_conditioning(latents)
    elif len(images) != len(latents):
        images = images.expand(len(latents), *images.shape[1:])
    given = {**conditions} if isinstance(conditions, dict) else {"c_crossattn": [conditions]}
    given["c_concat"] = [images]
    timesteps = torch.full((len(latents),), float(timestep), device=latents.device)
    return p.sd_model.apply_model(latents, timesteps, given)  # type: ignore[no-any-return]
