"""The pocket model's UNet: Stable Diffusion 1.5's topology at 64 channels, trained on stills of the plain world."""

from __future__ import annotations

import types
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from .loop import stream
from .recipe import BaseRecipe
from .text import EMPTY_PHRASINGS, PHRASINGS, WIDTH, TextEncoder
from .vae import LATENT_CHANNELS
from .world import CONCEPTS, caption

CHANNELS = 64  # fewer make the 32-group norms instance norms
HEADS = 4
UNET: dict[str, Any] = {
    "image_size": 32,
    "in_channels": LATENT_CHANNELS,
    "out_channels": LATENT_CHANNELS,
    "model_channels": CHANNELS,
    "attention_resolutions": [4, 2, 1],
    "num_res_blocks": 2,
    "channel_mult": [1, 1, 1, 1],
    "num_heads": HEADS,
    "use_spatial_transformer": True,
    "transformer_depth": 1,
    "context_dim": WIDTH,
    "use_checkpoint": False,
    "legacy": False,
}
TRAINING_STEPS = 1000
BETAS = (0.00085, 0.0120)  # Stable Diffusion's "scaled linear"


def alphas_cumprod() -> Tensor:
    """Share of the signal's variance that is left at each timestep."""
    first, last = (beta**0.5 for beta in BETAS)
    betas = torch.linspace(first, last, TRAINING_STEPS, dtype=torch.float64).square()
    return torch.cumprod(1 - betas, dim=0).float()


def new_unet(seed: int) -> nn.Module:
    """A UNet to train, the same for the same seed."""
    from ldm.modules.diffusionmodules.openaimodel import UNetModel

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return fast_attention(UNetModel(**UNET))


def fast_attention(unet: nn.Module) -> nn.Module:
    """Let this UNet's attention layers use torch's fused attention; weights and results stay."""
    from ldm.modules.attention import CrossAttention

    for module in unet.modules():
        if isinstance(module, CrossAttention):
            module.forward = types.MethodType(_attend, module)
    return unet


def _attend(self: Any, x: Tensor, context: Tensor | None = None) -> Tensor:
    """`CrossAttention.forward` with fused attention; the UNet never passes a mask."""
    source = x if context is None else context
    q, k, v = (
        rearrange(layer(given), "b n (h c) -> b h n c", h=self.heads)
        for layer, given in ((self.to_q, x), (self.to_k, source), (self.to_v, source))
    )
    found: Tensor = self.to_out(rearrange(F.scaled_dot_product_attention(q, k, v), "b h n c -> b n (h c)"))
    return found


class Conditions:
    """The captions of every concept in every phrasing, encoded once, and the empty ones."""

    def __init__(self, encoder: TextEncoder) -> None:
        texts = [phrasing.format(caption(concept)) for concept in CONCEPTS for phrasing in PHRASINGS]
        self._worded = rearrange(encoder(texts), "(n p) t c -> n p t c", p=len(PHRASINGS))
        self._empty = encoder(list(EMPTY_PHRASINGS))

    def pick(self, concepts: Tensor, random: torch.Generator, empty_share: float) -> Tensor:
        """Conditions, b t c, for the numbers of concepts: half plain captions, half other phrasings, some empty."""
        count = len(concepts)
        phrasing = torch.randint(len(PHRASINGS), (count,), generator=random)
        phrasing *= torch.rand(count, generator=random) < 0.5
        empty = torch.rand(count, generator=random) < empty_share
        return torch.where(empty[:, None, None], self._empty[phrasing], self._worded[concepts, phrasing])

    def plain(self, concepts: Tensor) -> Tensor:
        """The plain captions."""
        return self._worded[concepts, 0]

    def empty(self, count: int) -> Tensor:
        """The empty caption, repeated."""
        return self._empty[:1].expand(count, -1, -1)


def loss(
    unet: nn.Module,
    latents: Tensor,
    concepts: Tensor,
    conditions: Conditions,
    recipe: BaseRecipe,
    seed: int,
    step: int,
    offset: float = 0.0,
) -> Tensor:
    """Weighted error of the predicted noise in a step's batch.

    Args:
        unet: what is trained.
        latents: of all clips, n f c h w.
        concepts: number of each clip's concept, n.
        conditions: the captions, encoded.
        recipe: figures.
        seed: of the whole recipe.
        step: number of the step.
        offset: size of noise that is the same everywhere in a channel, which is added to the usual one.
    """
    random = stream(seed, "base", step)
    rows = torch.randint(latents.shape[0], (recipe.batch,), generator=random)
    frames = torch.randint(latents.shape[1], (recipe.batch,), generator=random)
    context = conditions.pick(concepts[rows], random, recipe.empty_captions)
    if step < recipe.steps * (1 - recipe.long_share):
        context = context[:, : recipe.short_tokens]  # the encoder is causal: cutting changes no other token
    t = torch.randint(TRAINING_STEPS, (recipe.batch,), generator=random)
    clean = latents[rows, frames].float()
    noise = torch.randn(clean.shape, generator=random)
    if offset:
        noise += offset * torch.randn(*clean.shape[:2], 1, 1, generator=random)
    error = unet(noised(clean, noise, t), t, context=context) - noise
    # 1 + sigma^2, which is 1 / alpha: high noise levels decide what is painted, and weigh nothing in the plain loss.
    weight = (1 / alphas_cumprod()[t]).clamp(max=recipe.largest_weight)
    weighted: Tensor = weight * error.square().mean(dim=(1, 2, 3))
    return weighted.mean()


def noised(clean: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """Clean latents with noise of timestep t."""
    alpha = alphas_cumprod()[t].view(-1, *[1] * (clean.dim() - 1))
    return alpha.sqrt() * clean + (1 - alpha).sqrt() * noise
