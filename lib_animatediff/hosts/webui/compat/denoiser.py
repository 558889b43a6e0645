"""AUTOMATIC1111: where image to image begins, what denoisers return, and what inpainting checkpoints see."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import a1111

_INPAINTING = ("hybrid", "concat")  # how the UNet takes the mask


def levels_of_img2img(p: Any, steps: int | None) -> Tensor:
    """The noise level of the first call of the denoiser by the number of steps less one, in the sampler's own units.

    Args:
        steps: as passed to ``sample_img2img``.
    """
    steps, _ = a1111.img2img_steps(p, steps)
    if hasattr(p.sampler, "get_timesteps"):  # one step less than the level of its noise says
        timesteps: Tensor = p.sampler.get_timesteps(p, steps).cpu().float()
        return torch.cat([timesteps.new_tensor([-1]), timesteps[: steps - 1]])
    return p.sampler.get_sigmas(p, steps).cpu()[:steps].flip(0)  # type: ignore[no-any-return]


def predicts_noise(denoiser: Any) -> bool:
    """Whether a ``CFGDenoiser`` gives the noise at a timestep, and not the image at a sigma."""
    return bool(denoiser.mask_before_denoising)


def sees_masks(p: Any) -> bool:
    """Whether the checkpoint is made for inpainting."""
    return p.sampler.conditioning_key in _INPAINTING or bool(getattr(p.sd_model, "is_sdxl_inpaint", False))


def mask_condition(p: Any, image: Any, changes: Tensor, latents: Tensor) -> Tensor:
    """What an inpainting checkpoint sees of an image: ``1 5 h w``.

    Args:
        image: RGB.
        changes: ``h w``, 1 where the image may change.
        latents: of the image, ``1 c h w``.
    """
    first = next(p.sd_model.first_stage_model.parameters())
    pixels = a1111.pixels_of(image).to(first) * 2 - 1
    return p.inpainting_image_conditioning(pixels, latents, image_mask=changes[None, None])  # type: ignore[no-any-return]
