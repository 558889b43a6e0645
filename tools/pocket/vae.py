"""The pocket model's VAE: Stable Diffusion's topology at 64 channels, trained to see the world's pictures.

The latents' spread is fixed rather than learned. After training, a whitening of every channel is folded into the two
1x1 convolutions around the latents, so that they have unit variance after the host's factor of 0.18215.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from .loop import stream, warm_cosine
from .recipe import DecoderRecipe, VaeRecipe
from .world import CONCEPTS, FRAMES, SIZE, path, render, scene

SCALE_FACTOR = 0.18215  # Stable Diffusion's
LATENT_CHANNELS = 4
PIXELS_PER_LATENT = 8
# With 32 groups, fewer channels would make the group norms instance norms, which lose colour and background level.
CHANNELS = 64
DDCONFIG: dict[str, Any] = {
    "double_z": True,
    "z_channels": LATENT_CHANNELS,
    "resolution": SIZE,
    "in_channels": 3,
    "out_ch": 3,
    "ch": CHANNELS,
    "ch_mult": [1, 1, 1, 1],
    "num_res_blocks": 1,
    "attn_resolutions": [],
    "dropout": 0.0,
}
LOG_VARIANCE = -5.0
SQUARED, ABSOLUTE = 4.0, 0.25  # weights of the two errors
LATENT_PENALTY = 1e-4  # keeps latents near the size at which their fixed spread matters
CROP_JITTER = 7.0  # pixels
WARM_UP = 20  # steps
ROWS_AT_ONCE = 32


class Vae(nn.Module):
    """Encoder and decoder under the names that a Stable Diffusion checkpoint gives them."""

    def __init__(self, config: dict[str, Any] = DDCONFIG) -> None:
        super().__init__()
        from ldm.modules.diffusionmodules.model import Decoder, Encoder

        with contextlib.redirect_stdout(io.StringIO()):  # they print what they build
            self.encoder = Encoder(**config)
            self.decoder = Decoder(**config)
        self.quant_conv = nn.Conv2d(2 * LATENT_CHANNELS, 2 * LATENT_CHANNELS, 1)
        self.post_quant_conv = nn.Conv2d(LATENT_CHANNELS, LATENT_CHANNELS, 1)

    def mean(self, pictures: Tensor) -> Tensor:
        """Pictures, n c h w from 0 to 1, to the mean of their latents, without the host's factor."""
        moments: Tensor = self.quant_conv(self.encoder(2 * pictures - 1))
        return moments[:, :LATENT_CHANNELS]

    def paint(self, z: Tensor) -> Tensor:
        """Latents without the host's factor to pictures from 0 to 1 (not clamped)."""
        painted: Tensor = self.decoder(self.post_quant_conv(z))
        return (painted + 1) / 2

    def encode(self, pictures: Tensor) -> Tensor:
        """Pictures to latents as the UNet sees them."""
        return self.mean(pictures) * SCALE_FACTOR

    def decode(self, latents: Tensor) -> Tensor:
        """Latents as the UNet makes them to pictures."""
        return self.paint(latents / SCALE_FACTOR)


def in_parts(work: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """What `work` makes of many rows, a few at a time, so that memory stays small."""
    return torch.cat([work(rows[start : start + ROWS_AT_ONCE]) for start in range(0, len(rows), ROWS_AT_ONCE)])


def new_vae(seed: int, config: dict[str, Any] = DDCONFIG) -> Vae:
    """A VAE to train, the same for the same seed; every residual block begins as the identity."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vae = Vae(config)
    for name, weight in vae.named_parameters():
        if ".conv2." in name:
            nn.init.zeros_(weight)
    return vae


def rate(recipe: VaeRecipe, step: int) -> float:
    """Learning rate of a step: one cosine for the crops, one for the whole pictures."""
    if step < recipe.crop_steps:
        return warm_cosine(recipe.crop_rate, recipe.crop_steps, WARM_UP, floor=0.1)(step)
    return warm_cosine(recipe.rate, recipe.steps - recipe.crop_steps, WARM_UP)(step - recipe.crop_steps)


def loss(vae: Vae, recipe: VaeRecipe, seed: int, step: int) -> Tensor:
    """Reconstruction error of a step's batch: first crops around the sprite, then whole pictures."""
    random = stream(seed, "vae", step)
    if step < recipe.crop_steps:
        shown = pictures(random, recipe.styles, recipe.crop_batch, recipe.crop)
    else:
        shown = pictures(random, recipe.styles, recipe.batch)
    spread = math.exp(LOG_VARIANCE / 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        z = vae.mean(shown)
        noise = torch.randn(z.shape, generator=random)
        painted = vae.paint(z + spread * noise)
    return distance(painted, shown) + LATENT_PENALTY * z.float().square().mean()


def decoder_loss(vae: Vae, recipe: DecoderRecipe, seed: int, step: int) -> Tensor:
    """Reconstruction error of a step's whole pictures from the latents of an encoder that stays as it is."""
    random = stream(seed, "decoder", step)
    shown = pictures(random, recipe.styles, recipe.batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=recipe.bfloat16):
        with torch.no_grad():
            latents = vae.encode(shown)
        noise = torch.randn(latents.shape, generator=random)
        painted = vae.decode(latents + recipe.noise * noise)
    return distance(painted, shown)


def distance(painted: Tensor, shown: Tensor) -> Tensor:
    """Reconstruction error of pictures from 0 to 1."""
    error = 2 * (painted.float() - shown)  # from -1 to 1, as the networks see it
    return SQUARED * error.square().mean() + ABSOLUTE * error.abs().mean()


def pictures(random: torch.Generator, styles: Sequence[str], count: int, size: int = SIZE) -> Tensor:
    """Random frames of some styles in equal parts, n c h w; smaller ones are crops around the sprite."""
    numbers = torch.randint(2**31, (count,), generator=random).tolist()
    scenes = [scene(number, 0, styles[index % len(styles)], CONCEPTS) for index, number in enumerate(numbers)]
    places = [path(each)[number % FRAMES] for each, number in zip(scenes, numbers, strict=True)]
    if size < SIZE:
        jitter = CROP_JITTER * (2 * torch.rand(count, 2, generator=random) - 1)
        places = [(size / 2 + dx, size / 2 + dy) for dx, dy in jitter.tolist()]
    return render(scenes, places, size)


@torch.no_grad()
def whiten(vae: Vae, shown: Tensor) -> None:
    """Give each latent channel mean 0 and, after the host's factor, variance 1 on these pictures."""
    z = vae.mean(shown)
    middle = z.mean(dim=(0, 2, 3))
    size = z.std(dim=(0, 2, 3)) * SCALE_FACTOR
    rows = slice(0, LATENT_CHANNELS)
    into, out_of = dict(vae.quant_conv.named_parameters()), dict(vae.post_quant_conv.named_parameters())
    into["weight"][rows] /= size[:, None, None, None]
    into["bias"][rows] = (into["bias"][rows] - middle) / size
    into["weight"][LATENT_CHANNELS:] = 0
    into["bias"][LATENT_CHANNELS:] = LOG_VARIANCE - 2 * size.log()
    out_of["bias"].add_(out_of["weight"][:, :, 0, 0] @ middle)
    out_of["weight"].mul_(size[None, :, None, None])
