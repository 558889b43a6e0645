"""Encode images with the frozen VAE.

Latents are samples of the VAE's distribution, not its mode, times its scaling factor (as in the official training). The
cache therefore stores the mean and standard deviation of every frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from .clips import Clip
from .rng import Draws

FRAMES_AT_ONCE = 8  # per VAE call, whose activations are large


@torch.no_grad()
def moments(vae: Any, frames: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of latents at the UNet's scale, both ``n c h w``, from frames ``n 3 h w``."""
    some = next(vae.parameters())
    parts = [
        vae.encode(part.to(device=some.device, dtype=some.dtype)).latent_dist
        for part in torch.split(frames, FRAMES_AT_ONCE)
    ]
    scale = vae.config.scaling_factor
    mean, deviation = (torch.cat([getattr(part, name) for part in parts]).float() for name in ("mean", "std"))
    return mean * scale, deviation * scale


def latents_of(clip: Clip, vae: Any, draws: Draws, device: torch.device) -> Tensor:
    """Latents of a clip, ``f c h w`` float32, sampled if their distribution is known."""
    mean, deviation = (clip.mean, clip.deviation) if clip.frames is None else moments(vae, clip.frames)
    assert mean is not None  # a clip consists of images or latents
    mean = mean.to(device=device, dtype=torch.float32)
    if deviation is None:
        return mean
    return mean + deviation.to(mean) * draws.normal("latents", tuple(mean.shape)).to(device)
