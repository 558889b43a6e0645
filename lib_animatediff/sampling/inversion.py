"""DDIM inversion: the noise from which a model samples a given image, and its share in the noise of other frames.

A motion module that gets such noise in frame i, and a fading share of it in the frames beside it, samples frames that
join the image. With independent noise beside it, the frames beside a pinned one show other things. A video whose
frames start from their own inverted noise keeps its motion at strengths at which random noise would lose it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from motion_module.schedules import TRAINING_STEPS

Predict = Callable[[Tensor, float], Tensor]
"""What a UNet predicts of latents ``n c h w`` at a timestep: their noise, or their velocity."""
Level = tuple[float, float]
"""A timestep of a sampling, and the share of the image in the variance there."""


def invert(
    latents: Tensor,
    predict: Predict,
    timesteps: Sequence[float],
    alphas_cumprod: Tensor,
    *,
    predicts_velocity: bool = False,
) -> Tensor:
    """DDIM sampling backward (arXiv 2010.02502, section 4.3), from latents of images to their noise.

    Args:
        latents: ``n c h w``, without noise.
        predict: the UNet's prediction.
        timesteps: of the sampling, from the noisiest to the least noisy one.
        alphas_cumprod: of the sampler, ``(steps,)``, on the CPU.
        predicts_velocity: what the UNet predicts; otherwise it is noise.

    Returns:
        Latents at the noisiest timestep, whose variance is about 1: ``n c h w``, like ``latents``.
    """
    levels = [(timestep, float(alphas_cumprod[round(timestep)])) for timestep in timesteps]
    *_, noised = _upward(latents, predict, levels, predicts_velocity=predicts_velocity)
    return noised.to(latents.dtype)


def inverted_noise(
    latents: Tensor,
    predict: Predict,
    levels: Sequence[Level],
    begins: Tensor | None = None,
    *,
    predicts_velocity: bool = False,
) -> Tensor:
    """The unit noise that leads a sampler from any level back to given latents, see `invert`.

    Args:
        latents: ``n c h w``, without noise.
        predict: the UNet's prediction.
        levels: of the steps that are sampled, from the noisiest to the least noisy one.
        begins: the number of the level at which each part begins to change, int64 in a shape that broadcasts to the
            latents; a part that never changes has the number of levels. None: all begin at the noisiest one.
        predicts_velocity: what the UNet predicts; otherwise it is noise.

    Returns:
        ``n c h w``, float32. Latents with this noise, at the level at which a part begins, are those of the inversion.
    """
    clean, found = latents.float(), torch.zeros_like(latents, dtype=torch.float32)
    if begins is not None:
        begins = torch.where(begins < len(levels), begins, 0)  # of what never changes, any noise will do
    upward = _upward(latents, predict, levels, predicts_velocity=predicts_velocity)
    for number, noised in zip(reversed(range(len(levels))), upward, strict=True):
        signal = levels[number][1]
        noise = (noised - signal**0.5 * clean) / (1 - signal) ** 0.5
        found = noise if begins is None else torch.where(begins <= number, noise, found)
    return found


def mix_noise(noise: Tensor, inverted: Tensor, share: float) -> Tensor:
    """Unit noise of which a share of the variance is inverted noise: like ``noise``, computed in float32."""
    mixed: Tensor = share**0.5 * inverted.to(noise.device, torch.float32) + (1 - share) ** 0.5 * noise.float()
    return mixed.to(noise.dtype)


def _upward(latents: Tensor, predict: Predict, levels: Sequence[Level], *, predicts_velocity: bool) -> Iterator[Tensor]:
    """Latents with more and more noise, float32, at one level after the other from the least noisy one."""
    rising = list(reversed(levels))
    noised, signal = latents.float(), 1.0
    for (at, level), (_, following) in zip([rising[0], *rising], rising, strict=False):
        noise = predict(noised.to(latents.dtype), at).float()
        if predicts_velocity:
            noise = level**0.5 * noise + (1 - level) ** 0.5 * noised
        clean = (noised - (1 - signal) ** 0.5 * noise) / signal**0.5
        signal = following
        noised = signal**0.5 * clean + (1 - signal) ** 0.5 * noise
        yield noised


def ddim_timesteps(steps: int) -> list[float]:
    """The timesteps of DDIM, from the noisiest one: evenly spaced, from 1 on, as in Stable Diffusion's code."""
    gap = TRAINING_STEPS // steps
    return [float(min(1 + step * gap, TRAINING_STEPS - 1)) for step in reversed(range(steps))]


def share_inverted_noise(
    noise: Tensor, inverted: Tensor, places: Sequence[int], share: float, *, is_loop: bool = False
) -> Tensor:
    """Mix the inverted noise of some frames into the noise of the frames between them.

    ``share ** d`` of the variance of a frame at a distance of d comes from the nearest given frame before it, and
    likewise from the one behind it; where both together are above 1, they are divided by their sum. So a given frame
    has its own inverted noise alone.

    Args:
        noise: unit noise of the clip's frames, ``f c h w``; not changed.
        inverted: of the given frames, ``p c h w``.
        places: the given frames, ``p``, ascending.
        share: 0 to below 1.
        is_loop: frame 0 follows the last one.

    Returns:
        A tensor like ``noise``, computed in float32. Two images that resemble each other have similar noise, whose sum
        would have too much variance; it is scaled to that of independent ones.
    """
    variance = inverted_shares(len(noise), places, share, is_loop=is_loop).to(noise.device)
    given = inverted.to(noise.device, torch.float32).flatten(1)
    weights = variance.sqrt()
    common = weights @ given
    products = given @ given.T / given.shape[1]
    wanted = variance @ products.diagonal()
    found = ((weights @ products) * weights).sum(dim=1)
    common = common * (wanted / found.clamp(min=1e-6)).sqrt()[:, None]
    rest = (1 - variance.sum(dim=1)).clamp(min=0).sqrt()
    mixed = common.view_as(noise) + rest[:, None, None, None] * noise.float()
    return mixed.to(noise.dtype)


def inverted_shares(frames: int, places: Sequence[int], share: float, *, is_loop: bool = False) -> Tensor:
    """The share of each given frame's inverted noise in the variance of each frame: ``f p``, float32."""
    shares = torch.zeros(frames, len(places))
    for frame in range(frames):
        if frame in places:
            shares[frame, places.index(frame)] = 1
            continue
        before = [(frame - place) % frames for place in places]
        behind = [(place - frame) % frames for place in places]
        for distances, is_there in (
            (before, is_loop or frame > places[0]),
            (behind, is_loop or frame < places[-1]),
        ):
            if is_there:
                nearest = min(distances)
                shares[frame, distances.index(nearest)] += share**nearest
    return shares / shares.sum(dim=1, keepdim=True).clamp(min=1)
