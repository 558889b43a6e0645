"""Calls of the checkpoint's UNet outside a sampler."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .host_models import current_model, host_model


def timestep_of(params: Any) -> float:
    """The timestep of the denoiser's next call, read from the device once.

    Args:
        params: of the hook before the call.
    """
    return float(current_model().timestep_of(params)[0])


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
    given = conditions if isinstance(conditions, dict) else {"c_crossattn": [conditions]}
    timesteps = torch.full((len(latents),), float(timestep), device=latents.device)
    return host_model(p.sd_model).predicted(latents, timesteps, given, images)
