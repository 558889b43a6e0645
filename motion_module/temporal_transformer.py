"""Temporal transformer: self-attention over the frames of a clip (arXiv 2307.04725, section 4.2).

All published versions share this network and differ in widths and sites only. Submodules carry the names of the
official files, so that state dicts load and save without renaming.

Letters in shapes: b clips of all CFG streams, f frames, c h w as usual, d = h * w positions, a heads, e head channels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .options import DEFAULT, Merge, Multival, TemporalOptions, View
from .products import add_linear, gelu_linear, linear

HEADS = 8  # in every published configuration
ATTENTIONS = 2  # temporal self-attentions per block of a motion module, likewise
NORM_GROUPS = 32  # as in Stable Diffusion
NORM_EPS = 1e-6  # as in Stable Diffusion's spatial transformers
CPU_PIECE = 8 * 2**20  # bytes of tokens per chunk: larger buffers are allocated and freed on every call
CPU_ROWS = 1024  # tokens per chunk of the feed-forward, for the same reason
PARTS, ROWS_OF_A_PART = 4, 4096  # chunks of the feed-forward on a GPU, and their smallest size, which keeps it busy
CUDA_GRID_LIMIT = 65535  # fused attention kernels put batch * heads on a grid axis of this size

_MergeHere = Callable[[Tensor, int], Tensor]
"""A `Merge` for the positions of these tokens."""


def positional_table(length: int, channels: int) -> Tensor:
    """Sinusoidal positions, float32, shape ``(1, length, channels)``: sine on even channels, cosine on odd ones."""
    table = torch.empty(1, length, channels)
    if table.is_meta:  # values of a meta tensor are never used, and computing them is slow
        return table
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    frequency = 10000.0 ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


class TemporalAttention(nn.Module):
    """Self-attention over the frames of a clip, separately at each spatial position."""

    pe: Tensor

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.register_buffer("pe", positional_table(length, channels), persistent=False)

    def forward(
        self,
        x: Tensor,
        onto: Tensor,
        scale: Multival = 1.0,
        start: int = 0,
        merge: Callable[[Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Add the attention's output to ``onto``. Overwrites ``x``.

        Args:
            x: normalised tokens, ``b f d c``.
            onto: residual stream, ``b f d c``.
            scale: factor on the keys, a number or ``f d``.
            start: the frame with the first position. Attention does not know the order of its tokens, so rolling the
                positions equals rolling the frames, and copies no token.
            merge: makes the tokens of queries, keys and values of those with their positions; None: they are these.
        """
        positions = self.pe[0, : x.shape[1]]
        x += (positions.roll(start, 0) if start else positions)[:, None].to(x.dtype)
        if merge is not None:
            x = merge(x)
        q, k, v = (_applied(layer, x) for layer in (self.to_q, self.to_k, self.to_v))
        if isinstance(scale, Tensor):
            k = k * scale.to(k.dtype).unsqueeze(-1)
        elif scale != 1:
            k = k * scale
        # One clip at a time: positions of several clips cannot be merged into one axis without a copy.
        clips = (_attended(*clip) for clip in zip(q, k, v, strict=True))
        if torch.is_grad_enabled():
            return _added(onto, self.to_out[0], torch.stack(list(clips)))
        for place, attended in zip(onto, clips, strict=True):  # stacking would copy them
            _add_to(place, self.to_out[0], attended)
        return onto


def _attended(*tokens: Tensor) -> Tensor:
    """Queries, keys and values ``f d c`` to attention output ``f d c``."""
    q, k, v = (rearrange(t, "f d (a e) -> d a f e", a=HEADS) for t in tokens)
    # The fused kernel's backward pass is twice as slow on a CPU, as clips are short and heads are narrow.
    is_trained_on_cpu = q.requires_grad and q.device.type == "cpu" and q.dtype == torch.float32
    attend = _attend_in_parts if is_trained_on_cpu else F.scaled_dot_product_attention
    return rearrange(attend(q, k, v), "d a f e -> f d (a e)")


def _attend_in_parts(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """What ``scaled_dot_product_attention`` computes, as two products."""
    weights: Tensor = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(-1)
    return weights @ v


class GEGLU(nn.Module):
    """Gated linear unit with GELU, the first layer of the feed-forward."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., channels)`` to ``(..., inner)``."""
        if not _is_plain(self.proj):
            values, gated = self.proj(x).chunk(2, dim=-1)
            return values * F.gelu(gated)  # type: ignore[no-any-return]
        # Two products instead of one that is split: contiguous halves are faster to read.
        (value, gate), (value_bias, gate_bias) = self.proj.weight.chunk(2), self.proj.bias.chunk(2)
        gated, values = gelu_linear(x, gate, gate_bias), linear(x, value, value_bias)
        return gated * values if torch.is_grad_enabled() else gated.mul_(values)


class FeedForward(nn.Module):
    """Feed-forward with four times the width; numbered as in the official files, where 1 is a dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, channels * 4), nn.Identity(), nn.Linear(channels * 4, channels))

    def forward(self, x: Tensor, onto: Tensor) -> Tensor:
        """Add the output for normalised tokens ``b f d c`` to ``onto``."""
        if torch.is_grad_enabled():
            return _added(onto, self.net[2], self.net[0](x))
        rows = CPU_ROWS if _on_processor(x) else max(ROWS_OF_A_PART, math.ceil(x.shape[:-1].numel() / PARTS))
        for part, place in zip(*(torch.split(t.flatten(0, 2), rows) for t in (x, onto)), strict=True):
            _add_to(place, self.net[2], self.net[0](part))
        return onto


class TemporalBlock(nn.Module):
    """Pre-norm transformer block: temporal self-attentions, two in motion modules, and a feed-forward."""

    def __init__(self, channels: int, length: int, attentions: int = ATTENTIONS) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([TemporalAttention(channels, length) for _ in range(attentions)])
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(attentions)])
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(
        self,
        x: Tensor,
        scale: Multival = 1.0,
        views: Sequence[View] = (),
        start: int = 0,
        merge: _MergeHere | None = None,
    ) -> Tensor:
        """Tokens ``b f d c`` in and out, in the same memory; ``scale`` is a number or ``f d``."""
        x = self._in_views(x, scale, views, merge) if views else self._attend(x, scale, start, merge)
        return self.ff(self.ff_norm(x), onto=x)  # type: ignore[no-any-return]

    def _attend(
        self, x: Tensor, scale: Multival, start: int = 0, merge: _MergeHere | None = None, view: int = 0
    ) -> Tensor:
        of_first = None if merge is None else partial(_in_view, merge, view)
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = attention(norm(x), x, scale, start, of_first)
            of_first = None
        return x

    def _in_views(self, x: Tensor, scale: Multival, views: Sequence[View], merge: _MergeHere | None = None) -> Tensor:
        """Run the attentions per view; average overlapping views by their weights, accumulated in float32."""
        total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        counts = total.new_zeros(x.shape[1], 1, 1)
        for number, (window, weights) in enumerate(views):
            index = torch.as_tensor(window, device=x.device)
            weight = torch.as_tensor(weights, dtype=total.dtype, device=x.device).view(-1, 1, 1)
            scaled = scale.index_select(0, index) if isinstance(scale, Tensor) else scale
            attended = self._attend(x.index_select(1, index), scaled, merge=merge, view=number)
            total.index_add_(1, index, attended.to(total) * weight)
            counts.index_add_(0, index, weight)
        return total.div_(counts).to(x.dtype)


def _in_view(merge: _MergeHere, view: int, tokens: Tensor) -> Tensor:
    return merge(tokens, view)


def _added(onto: Tensor, layer: nn.Module, x: Tensor) -> Tensor:
    """``onto + layer(x)``, computed in place as one product where possible.

    Not possible if a gradient needs the previous values, in mixed precision, or if the layer is not a plain linear one
    (for example while a LoRA is trained).
    """
    # MPS before macOS 15 drops the result of an in-place product on a slice.
    if torch.is_grad_enabled() or onto.device.type == "mps" or not _is_plain(layer):
        return onto + layer(x)  # type: ignore[no-any-return]
    if not onto.dtype == x.dtype == layer.weight.dtype:
        return onto + layer(x)  # type: ignore[no-any-return]
    add_linear(onto, x, layer.weight, layer.bias)  # type: ignore[arg-type]
    return onto


def _add_to(place: Tensor, layer: nn.Module, x: Tensor) -> None:
    """Add ``layer(x)`` to a part of a tensor, without gradients."""
    added = _added(place, layer, x)
    if added is not place:
        place.copy_(added)


def _applied(layer: nn.Module, x: Tensor) -> Tensor:
    return linear(x, layer.weight, layer.bias) if _is_plain(layer) else layer(x)  # type: ignore[arg-type]


def _is_plain(layer: nn.Module) -> bool:
    """Whether a layer is an unwrapped `nn.Linear` without hooks, so that its weights may be used directly."""
    return type(layer) is nn.Linear and not layer._forward_hooks and not layer._forward_pre_hooks


class TemporalTransformer(nn.Module):
    """The network at one site: normalise, mix frames, add to the input.

    Attributes:
        gradient_checkpointing: recompute activations in the backward pass instead of storing them.
        shared_norm: take the norm's statistics over all frames of a clip, see `Kind.shared_own_norm`.
    """

    def __init__(self, channels: int, length: int, *, shared_norm: bool = False, attentions: int = ATTENTIONS) -> None:
        super().__init__()
        self.gradient_checkpointing = False
        self.shared_norm = shared_norm
        self.norm = nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, length, attentions)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, frames: int, options: TemporalOptions = DEFAULT) -> Tensor:
        """``(b f) c h w`` in and out, in the input's dtype; ``frames`` is f."""
        if not isinstance(options.effect, Tensor) and options.effect == 0:
            return x
        if self.gradient_checkpointing and torch.is_grad_enabled():
            return checkpoint(self._add_motion, x, frames, options, use_reentrant=False)  # type: ignore[no-any-return]
        return self._add_motion(x, frames, options)

    def _add_motion(self, x: Tensor, frames: int, options: TemporalOptions) -> Tensor:
        """Spatial positions are independent, so they are processed in chunks where that saves memory or time."""
        normed = self._normalised_over_clips(x, frames) if self.shared_norm else self.norm(x)
        sources, clips = (rearrange(t, "(b f) c h w -> b f c (h w)", f=frames) for t in (x, normed))
        scale, effect = (_by_position(t, x, frames) for t in (options.scale, options.effect))

        def motion(at: slice) -> Tensor:
            found = self._temporal_layers(clips[..., at], _at(scale, at), options, at)
            if isinstance(effect, Tensor):
                found = found * effect[:, at].to(found.dtype).unsqueeze(1)
            elif effect != 1:
                found = found * effect
            return found.to(x.dtype)

        pieces = _pieces(clips, options.pieces)
        if torch.is_grad_enabled():
            moved = torch.cat([sources[..., at] + motion(at) for at in pieces], dim=-1)
            return rearrange(moved, "b f c (h w) -> (b f) c h w", h=x.shape[2])
        # Keep the input's memory format if `places` can be a view of it; otherwise use contiguous.
        is_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        out = torch.empty_like(x, memory_format=torch.channels_last if is_last else torch.contiguous_format)
        places = rearrange(out, "(b f) c h w -> b f c (h w)", f=frames)
        for at in pieces:
            torch.add(sources[..., at], motion(at), out=places[..., at])
        return out

    def _temporal_layers(self, x: Tensor, scale: Multival, options: TemporalOptions, at: slice) -> Tensor:
        """``b f c d`` in and out; inside, tokens are ``b f d c``, so that no layer transposes them."""
        merge = None if options.merge is None else partial(_merged_at, options.merge, at)
        tokens = rearrange(x, "b f c d -> b f d c").contiguous()  # products of strided tensors are slow
        tokens = _applied(self.proj_in, tokens)
        for block in self.transformer_blocks:
            tokens = block(tokens, scale, options.views, options.start, merge)
        return rearrange(_applied(self.proj_out, tokens), "b f d c -> b f c d")

    def _normalised_over_clips(self, x: Tensor, frames: int) -> Tensor:
        height, width = x.shape[2:]
        clips = rearrange(x, "(b f) c h w -> b c (f h w)", f=frames)
        normed = F.group_norm(clips, NORM_GROUPS, self.norm.weight, self.norm.bias, NORM_EPS)  # float32 inside
        return rearrange(normed, "b c (f h w) -> (b f) c h w", h=height, w=width)


def _merged_at(merge: Merge, at: slice, tokens: Tensor, view: int) -> Tensor:
    return merge(tokens, at, view)


def _by_position(amount: Multival, like: Tensor, frames: int) -> Multival:
    """A tensor as ``f d`` on the device of ``like``; a number unchanged."""
    if not isinstance(amount, Tensor):
        return amount
    return amount.to(like.device).expand(frames, *like.shape[2:]).flatten(1)


def _at(amount: Multival, positions: slice) -> Multival:
    return amount[:, positions] if isinstance(amount, Tensor) else amount


def _on_processor(x: Tensor) -> bool:
    return x.device.type == "cpu"


def _pieces(x: Tensor, at_least: int) -> list[slice]:
    """Slices of the positions of ``b f c d``: at least ``at_least``, more where the device needs them."""
    positions = x.shape[-1]
    count = max(at_least, math.ceil(positions / (CUDA_GRID_LIMIT // HEADS)))
    if _on_processor(x) and not torch.is_grad_enabled():
        count = max(count, math.ceil(x.numel() * x.element_size() / CPU_PIECE))
    length = math.ceil(positions / count)
    return [slice(start, min(start + length, positions)) for start in range(0, positions, length)]
