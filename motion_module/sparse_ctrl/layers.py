"""The layers of Stable Diffusion 1.5's UNet encoder, with the parameter names of diffusers, which the files have.

A SparseCtrl encoder is such an encoder with temporal transformers between its layers. Rows are ``(k b f)``: streams,
clips and frames.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from motion_module.temporal_transformer import GEGLU, NORM_EPS, NORM_GROUPS

HEADS = 8  # of Stable Diffusion 1.5's attentions, whatever their width
RESNET_EPS = 1e-5  # of its ResNet blocks' norms
TIME_FACTOR = 4  # the time embedding is this many times as wide as the first layer
LONGEST_PERIOD = 10_000.0  # of the sinusoidal timesteps


def timestep_waves(timesteps: Tensor, channels: int) -> Tensor:
    """Sinusoidal timesteps ``n`` as ``n channels`` in float32: cosines in the first half, sines in the second."""
    half = channels // 2
    exponents = torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
    angles = timesteps.float()[:, None] * torch.exp(-math.log(LONGEST_PERIOD) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=1)


class TimeEmbedding(nn.Module):
    """Two linear layers on sinusoidal timesteps."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.linear_1 = nn.Linear(channels, TIME_FACTOR * channels)
        self.linear_2 = nn.Linear(TIME_FACTOR * channels, TIME_FACTOR * channels)

    def forward(self, timesteps: Tensor) -> Tensor:
        """``n`` to ``n e``, in the dtype of the weights."""
        waves = timestep_waves(timesteps, self.linear_1.in_features).to(self.linear_1.weight.dtype)
        return self.linear_2(F.silu(self.linear_1(waves)))  # type: ignore[no-any-return]


class ResnetBlock(nn.Module):
    """Two convolutions with the timestep between them."""

    def __init__(self, before: int, channels: int, embedding: int) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(NORM_GROUPS, before, eps=RESNET_EPS)
        self.conv1 = nn.Conv2d(before, channels, 3, padding=1)
        self.time_emb_proj = nn.Linear(embedding, channels)
        self.norm2 = nn.GroupNorm(NORM_GROUPS, channels, eps=RESNET_EPS)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        if before != channels:
            self.conv_shortcut = nn.Conv2d(before, channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        """``n c h w`` and ``n e``; norms take their statistics per row, so per frame."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = h + self.time_emb_proj(F.silu(embedding))[:, :, None, None]
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.conv_shortcut(x) if hasattr(self, "conv_shortcut") else x)  # type: ignore[no-any-return]


class Attention(nn.Module):
    """Attention from the positions of an image to themselves or to a text."""

    def __init__(self, channels: int, source: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(source, channels, bias=False)
        self.to_v = nn.Linear(source, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Queries from ``n d c``, keys and values from ``n m e``."""
        given = self.to_q(x), self.to_k(source), self.to_v(source)
        q, k, v = (rearrange(t, "n d (a e) -> n a d e", a=HEADS) for t in given)
        attended = F.scaled_dot_product_attention(q, k, v)
        return self.to_out[0](rearrange(attended, "n a d e -> n d (a e)"))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Feed-forward with four times the width; numbered as in the files, where 1 is a dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, channels * 4), nn.Identity(), nn.Linear(channels * 4, channels))

    def forward(self, x: Tensor) -> Tensor:
        """``n d c`` in and out."""
        return self.net(x)  # type: ignore[no-any-return]


class TransformerBlock(nn.Module):
    """Self-attention, attention to the text, feed-forward."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.attn1 = Attention(channels, channels)
        self.attn2 = Attention(channels, context)
        self.ff = FeedForward(channels)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``n d c`` in and out; ``context`` is ``n m e``."""
        normed = self.norm1(x)
        x = x + self.attn1(normed, normed)
        x = x + self.attn2(self.norm2(x), context)
        return x + self.ff(self.norm3(x))  # type: ignore[no-any-return]


class SpatialTransformer(nn.Module):
    """A transformer block on the positions of each frame."""

    def __init__(self, channels: int, context: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPS)
        self.proj_in = nn.Conv2d(channels, channels, 1)
        self.transformer_blocks = nn.ModuleList([TransformerBlock(channels, context)])
        self.proj_out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """``n c h w`` in and out."""
        tokens = rearrange(self.proj_in(self.norm(x)), "n c h w -> n (h w) c")
        for block in self.transformer_blocks:
            tokens = block(tokens, context)
        h = rearrange(tokens, "n (h w) c -> n c h w", h=x.shape[2])
        return x + self.proj_out(h)  # type: ignore[no-any-return]


class Downsampler(nn.Module):
    """Halves height and width."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``n c h w`` to ``n c h/2 w/2``."""
        return self.conv(x)  # type: ignore[no-any-return]


class ScribbleEmbedding(nn.Module):
    """Convolutions from drawings, in pixels, to features, an eighth as high and wide."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        widths = SCRIBBLE_WIDTHS
        self.conv_in = nn.Conv2d(before, widths[0], 3, padding=1)
        pairs = [(a, b, stride) for a, c in pairwise(widths) for b, stride in ((a, 1), (c, 2))]
        self.blocks = nn.ModuleList([nn.Conv2d(a, b, 3, padding=1, stride=stride) for a, b, stride in pairs])
        self.conv_out = nn.Conv2d(widths[-1], channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """``n c H W`` to ``n c h w``."""
        for layer in (self.conv_in, *self.blocks):
            x = F.silu(layer(x))
        return self.conv_out(x)  # type: ignore[no-any-return]


SCRIBBLE_WIDTHS = (16, 32, 96, 256)  # of its layers, each half as high and wide as the one before
