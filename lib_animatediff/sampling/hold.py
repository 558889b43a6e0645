"""Parts of latents that stay images for some of the sampling steps, or for all of them.

Strength differs per frame and per region (Differential Diffusion, arXiv 2306.00950). A part is held until the step at
which image to image of its strength would begin: the sampler gets the prediction that leads to the image. So its
latents are the image with noise at every step, whatever the sampler, and samplers with a history find the image in it.
From its first step on, the part is denoised like the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_PIXELS_PER_LATENT = 8
_LEAST_SIGNAL = 1e-8  # of a schedule with zero terminal SNR


def strengths_of(frames: Sequence[float], masks: Tensor | None = None) -> Tensor:
    """The strength of each part, ``f 1 h w`` or ``f 1 1 1``, float64 in main memory.

    Args:
        frames: strength of each frame.
        masks: share of it, ``f 1 h w``; None: all.
    """
    strengths = torch.tensor(frames, dtype=torch.float64).view(-1, 1, 1, 1)
    return strengths if masks is None else strengths * masks.double()


def first_steps(strengths: Tensor, steps: int, least: int = 0) -> Tensor:
    """The first step of each part, int64, as diffusers' image to image counts them; ``steps``: it stays the image.

    Args:
        least: how many steps a part of any strength above 0 has.
    """
    sampled = (strengths * steps).long().clamp(min=least, max=steps)
    return steps - torch.where(strengths > 0, sampled, torch.zeros_like(sampled))


def shrunk(mask: Tensor) -> Tensor:
    """A mask ``1 h w`` for latents: the largest value in the pixels of each, so that all of them may change."""
    return functional.max_pool2d(mask, _PIXELS_PER_LATENT)


def feathered(mask: Tensor, width: int) -> Tensor:
    """Share of the changed image in each pixel: 0 outside the mask, and 1 from ``width`` pixels inside its edge.

    Args:
        mask: ``h w``; all above 0 is inside. The edge of the image is none of the mask's.
    """
    inside = (mask > 0).float()[None]
    total = inside
    for _ in range(width - 1):
        inside = -functional.max_pool2d(-inside, 3, stride=1, padding=1)
        total = total + inside
    return total[0] / max(width, 1)


class NoiseLevels:
    """The share of the image's variance at timesteps, which may lie between those of the training.

    Args:
        alphas_cumprod: of the sampling, ``(steps,)``.
        in_logarithms: between whole timesteps log sigma is linear, as in k-diffusion; otherwise sigma, as in diffusers.
    """

    def __init__(self, alphas_cumprod: Tensor, *, in_logarithms: bool = False) -> None:
        levels = alphas_cumprod.detach().float().clamp(_LEAST_SIGNAL, 1 - _LEAST_SIGNAL)
        variances = (1 - levels) / levels
        self._points = variances.log() if in_logarithms else variances.sqrt()
        self._in_logarithms = in_logarithms

    def signal_at(self, timesteps: Tensor) -> Tensor:
        """The shares, in the shape and on the device of the timesteps."""
        points = self._points = self._points.to(timesteps.device)
        last = len(points) - 1
        timesteps = timesteps.float().clamp(0, last)
        below = timesteps.floor().long()
        point = torch.lerp(points[below], points[(below + 1).clamp(max=last)], timesteps - below)
        return torch.sigmoid(-point) if self._in_logarithms else 1 / (1 + point**2)

    def timesteps_at(self, signals: Tensor) -> Tensor:
        """The timesteps at which the image has these shares: the inverse of `signal_at`, within the training's."""
        points = self._points.to(signals.device)
        variances = (1 - signals) / signals.clamp(min=_LEAST_SIGNAL)
        wanted = variances.log() if self._in_logarithms else variances.sqrt()
        last = len(points) - 1
        above = torch.searchsorted(points, wanted).clamp(1, last)
        share = (wanted - points[above - 1]) / (points[above] - points[above - 1])
        return above - 1 + share.clamp(0, 1)


def prediction_of(image: Tensor, noised: Tensor, signal: Tensor, *, predicts_velocity: bool) -> Tensor:
    """What a network would predict for noised latents, if it knew the image.

    Args:
        image, noised: latents; any shapes that broadcast.
        signal: share of the image's variance in ``noised``.
    """
    noise = (noised - signal.sqrt() * image) / (1 - signal).sqrt()
    return signal.sqrt() * noise - (1 - signal).sqrt() * image if predicts_velocity else noise
