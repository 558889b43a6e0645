"""The motion module's network: a temporal transformer at each site of a UNet (arXiv 2307.04725, section 4.2).

Every version since 2023 is the same network at other widths and sites, so one class serves all. Submodule names are
those of the official files: a state dict goes in and comes out under its own keys.

Letters in shapes: b clips of every stream, f frames, c h w as usual, d = h * w positions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .direction import AS_TRAINED, Amount, Direction, View
from .kinds import Kind
from .schedules import BetaSchedule

HEADS = 8  # every published configuration
ATTENTIONS = 2  # two temporal self-attentions in each block, likewise
NORM_GROUPS = 32
NORM_EPS = 1e-6  # as in Stable Diffusion's spatial transformers
CPU_PIECE = 16 * 2**20  # bytes of the widest tensor; larger ones the system gives and takes anew each time
CUDA_GRID_LIMIT = 65535  # fused attention kernels put batch * heads on a grid axis of this size


def positional_table(length: int, channels: int) -> Tensor:
    """Sinusoidal positions, float32, shape ``(1, length, channels)``: sine on even channels, cosine on odd ones."""
    table = torch.empty(1, length, channels)
    if table.is_meta:  # a skeleton's: torch takes long to compute nothing
        return table
    position = torch.arange(length, dtype=torch.float64).unsqueeze(1)
    frequency = 10000.0 ** (-torch.arange(0, channels, 2, dtype=torch.float64) / channels)
    table[0, :, 0::2] = torch.sin(position * frequency)
    table[0, :, 1::2] = torch.cos(position * frequency)
    return table


class TemporalAttention(nn.Module):
    """Self-attention over the frames of a clip, at each position of the picture by itself."""

    pe: Tensor

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.to_q = nn.Linear(channels, channels, bias=False)
        self.to_k = nn.Linear(channels, channels, bias=False)
        self.to_v = nn.Linear(channels, channels, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(channels, channels)])
        self.register_buffer("pe", positional_table(length, channels), persistent=False)

    def forward(self, x: Tensor, scale: Amount = 1.0) -> Tensor:
        """``n f c`` normalised tokens in, the same shape out; ``scale`` of the keys, a number or ``n f``."""
        x = x + self.pe[:, : x.shape[1]].to(x.dtype)
        q, k, v = (rearrange(t, "n f (a e) -> n a f e", a=HEADS) for t in (self.to_q(x), self.to_k(x), self.to_v(x)))
        if isinstance(scale, Tensor):
            k = k * rearrange(scale.to(k.dtype), "n f -> n 1 f 1")
        elif scale != 1:
            k = k * scale
        x = rearrange(F.scaled_dot_product_attention(q, k, v), "n a f e -> n f (a e)")
        return self.to_out[0](x)  # type: ignore[no-any-return]


class GEGLU(nn.Module):
    """Gated linear unit with GELU, the feed-forward's first layer."""

    def __init__(self, channels: int, inner: int) -> None:
        super().__init__()
        self.proj = nn.Linear(channels, inner * 2)

    def forward(self, x: Tensor) -> Tensor:
        """``(..., channels)`` to ``(..., inner)``."""
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Four times as wide inside; numbered as in the official files, where 1 is a dropout."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.net = nn.Sequential(GEGLU(channels, channels * 4), nn.Identity(), nn.Linear(channels * 4, channels))

    def forward(self, x: Tensor) -> Tensor:
        """``(..., channels)`` in and out."""
        return self.net(x)  # type: ignore[no-any-return]


class TemporalBlock(nn.Module):
    """Pre-norm transformer block: two temporal self-attentions and a feed-forward."""

    def __init__(self, channels: int, length: int) -> None:
        super().__init__()
        self.attention_blocks = nn.ModuleList([TemporalAttention(channels, length) for _ in range(ATTENTIONS)])
        self.norms = nn.ModuleList([nn.LayerNorm(channels) for _ in range(ATTENTIONS)])
        self.ff = FeedForward(channels)
        self.ff_norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor, scale: Amount = 1.0, views: Sequence[View] = ()) -> Tensor:
        """Tokens ``n f c`` in and out; ``scale`` a number or ``n f``."""
        x = self._in_views(x, scale, views) if views else self._attend(x, scale)
        return x + self.ff(self.ff_norm(x))  # type: ignore[no-any-return]

    def _attend(self, x: Tensor, scale: Amount) -> Tensor:
        for attention, norm in zip(self.attention_blocks, self.norms, strict=True):
            x = x + attention(norm(x), scale)
        return x

    def _in_views(self, x: Tensor, scale: Amount, views: Sequence[View]) -> Tensor:
        """Both attentions view by view; where views overlap, the average by their weights, summed in float32."""
        total = torch.zeros_like(x, dtype=torch.promote_types(x.dtype, torch.float32))
        counts = total.new_zeros(x.shape[1], 1)
        for window, weights in views:
            index = torch.tensor(window, device=x.device)
            weight = total.new_tensor(weights).unsqueeze(-1)
            scaled = scale.index_select(1, index) if isinstance(scale, Tensor) else scale
            attended = self._attend(x.index_select(1, index), scaled)
            total.index_add_(1, index, attended.to(total) * weight)
            counts.index_add_(0, index, weight)
        return total.div_(counts).to(x.dtype)


class TemporalTransformer(nn.Module):
    """What sits at one site: normalise, mix the frames, add to what came in.

    Attributes:
        compute_twice: gradient checkpointing: while training keep no activations, compute them again for the gradient.
        shared_norm: whether the norm takes its statistics over a clip's frames together, see `Kind.shared_own_norm`.
    """

    def __init__(self, channels: int, length: int, *, shared_norm: bool = False) -> None:
        super().__init__()
        self.compute_twice = False
        self.shared_norm = shared_norm
        self.norm = nn.GroupNorm(NORM_GROUPS, channels, eps=NORM_EPS)
        self.proj_in = nn.Linear(channels, channels)
        self.transformer_blocks = nn.ModuleList([TemporalBlock(channels, length)])
        self.proj_out = nn.Linear(channels, channels)

    def forward(self, x: Tensor, frames: int, direction: Direction = AS_TRAINED) -> Tensor:
        """``(b f) c h w`` in and out, in the input's dtype; ``frames`` is f."""
        effect = direction.effect
        if not isinstance(effect, Tensor) and effect == 0:
            return x
        if self.compute_twice and torch.is_grad_enabled():
            motion: Tensor = checkpoint(self._motion, x, frames, direction, use_reentrant=False)
        else:
            motion = self._motion(x, frames, direction)
        if isinstance(effect, Tensor):
            motion = motion * repeat(effect.to(motion), "f h w -> (b f) 1 h w", b=x.shape[0] // frames)
        elif effect != 1:
            motion = motion * effect
        return x + motion.to(x.dtype)

    def _motion(self, x: Tensor, frames: int, direction: Direction) -> Tensor:
        """Positions go through by themselves, so piece by piece where that takes less memory or time."""
        height, width = x.shape[2:]
        normed = self._normalised_over_clips(x, frames) if self.shared_norm else self.norm(x)
        normed = rearrange(normed, "(b f) c h w -> b f c (h w)", f=frames)
        scale = direction.scale
        if isinstance(scale, Tensor):
            scale = scale.to(x.device).expand(frames, height, width).flatten(1)
        parts = [
            self._transformed(normed[..., at], scale[:, at] if isinstance(scale, Tensor) else scale, direction.views)
            for at in _pieces(normed, direction.pieces)
        ]
        motion = parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)
        return rearrange(motion, "b f c (h w) -> (b f) c h w", h=height)

    def _transformed(self, x: Tensor, scale: Amount, views: Sequence[View]) -> Tensor:
        """``b f c d`` in and out; within, tokens are ``(b d) f c``, so that no layer has to turn them round."""
        clips = x.shape[0]
        tokens = self.proj_in(rearrange(x, "b f c d -> (b d) f c").contiguous())  # of strided ones, a slow product
        if isinstance(scale, Tensor):
            scale = repeat(scale, "f d -> (b d) f", b=clips)
        for block in self.transformer_blocks:
            tokens = block(tokens, scale, views)
        return rearrange(self.proj_out(tokens), "(b d) f c -> b f c d", b=clips)  # type: ignore[no-any-return]

    def _normalised_over_clips(self, x: Tensor, frames: int) -> Tensor:
        height, width = x.shape[2:]
        clips = rearrange(x, "(b f) c h w -> b c (f h w)", f=frames)
        normed = F.group_norm(clips, NORM_GROUPS, self.norm.weight, self.norm.bias, NORM_EPS)  # float32 inside
        return rearrange(normed, "b c (f h w) -> (b f) c h w", h=height, w=width)


def _pieces(x: Tensor, at_least: int) -> list[slice]:
    """Into which pieces the positions of ``b f c d`` are cut: as many as asked for, or as the device needs."""
    clips, frames, channels, positions = x.shape
    count = max(at_least, math.ceil(clips * positions * HEADS / CUDA_GRID_LIMIT))
    if x.device.type == "cpu" and not torch.is_grad_enabled():
        widest = clips * frames * positions * 8 * channels * x.element_size()
        count = max(count, math.ceil(widest / CPU_PIECE))
    length = math.ceil(positions / count)
    return [slice(start, min(start + length, positions)) for start in range(0, positions, length)]


class SiteModule(nn.Module):
    """A site's transformer under its official name."""

    def __init__(self, channels: int, length: int, *, shared_norm: bool = False) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, length, shared_norm=shared_norm)


class MotionBlock(nn.Module):
    """The sites of one UNet block."""

    def __init__(self, widths: tuple[int, ...], length: int, *, shared_norm: bool = False) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleList(
            [SiteModule(channels, length, shared_norm=shared_norm) for channels in widths]
        )


@dataclass(frozen=True)
class Layout:
    """Channels of each site: per down block, in the middle (None without), per up block; and the trained length."""

    down: tuple[tuple[int, ...], ...]
    mid: int | None
    up: tuple[tuple[int, ...], ...]
    trained_length: int


class MotionModule(nn.Module):
    """All temporal transformers of one file, and what is known about it.

    Attributes:
        name: what messages call it, usually the file's name.
    """

    def __init__(self, layout: Layout, kind: Kind, name: str = "motion module") -> None:
        super().__init__()
        self.layout = layout
        self._kind = kind
        self.name = name

        def block(widths: tuple[int, ...]) -> MotionBlock:
            return MotionBlock(widths, layout.trained_length, shared_norm=kind.shared_own_norm)

        self.down_blocks = nn.ModuleList([block(widths) for widths in layout.down])
        self.mid_block = block((layout.mid,)) if layout.mid is not None else None
        self.up_blocks = nn.ModuleList([block(widths) for widths in layout.up])

    @property
    def kind(self) -> str:
        """Which official training it follows: a name in the table of kinds, such as ``"v3"``."""
        return self._kind.name

    @property
    def base(self) -> str:
        """The image model that it animates: ``"sd15"`` or ``"sdxl"``."""
        return self._kind.base

    @property
    def schedule(self) -> BetaSchedule:
        """The noise levels it was trained on."""
        return self._kind.schedule

    @property
    def shared_resnet_norms(self) -> bool:
        """Whether the UNet's ResBlocks and its output normalise over all frames of a clip, see `Kind`."""
        return self._kind.shared_resnet_norms

    @property
    def trained_length(self) -> int:
        """How many frames its positional table was trained for."""
        return self.layout.trained_length

    @property
    def best_length(self) -> int:
        """How many frames at a time it makes its best clips with; never more than `trained_length`."""
        return min(self._kind.best_length or self.trained_length, self.trained_length)

    def sites(self) -> Iterator[tuple[str, TemporalTransformer]]:
        """Official site name, such as ``down_blocks.0.motion_modules.1``, with the transformer that belongs there."""
        for name, module in self.named_modules():
            if isinstance(module, SiteModule):
                yield name, module.temporal_transformer

    @classmethod
    def fresh(cls, layout: Layout, kind: Kind, name: str = "motion module") -> MotionModule:
        """An untrained module, float32 on the CPU, that leaves a UNet's output as it is.

        Initialised as in the official training: torch's defaults, and zero where each transformer's output is added.
        Draws from torch's global generator.
        """
        motion = cls(layout, kind, name)
        for _, transformer in motion.sites():
            nn.init.zeros_(transformer.proj_out.weight)
            nn.init.zeros_(transformer.proj_out.bias)
        return motion

    @classmethod
    def _skeleton(cls, layout: Layout, kind: Kind, name: str) -> MotionModule:
        with torch.device("meta"):  # shapes only: the weights come from a file
            return cls(layout, kind, name)

    @classmethod
    @lru_cache(maxsize=16)
    def expected_shapes(cls, layout: Layout, kind: Kind) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every weight that a file of this layout must hold."""
        return {key: tuple(tensor.shape) for key, tensor in cls._skeleton(layout, kind, "").state_dict().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], layout: Layout, kind: Kind, name: str = "motion module"
    ) -> MotionModule:
        """Build around the given tensors (taken, not copied); frozen, in evaluation mode.

        Raises:
            RuntimeError: a key is missing, left over, or of another shape (torch's own strict check).
        """
        motion = cls._skeleton(layout, kind, name)
        motion.load_state_dict(dict(state), strict=True, assign=True)
        some = next(iter(state.values()))
        for module in motion.modules():
            if isinstance(module, TemporalAttention):
                table = positional_table(layout.trained_length, module.to_q.in_features)
                module.pe = table.to(some.device)  # not rounded to the file's dtype
        return motion.requires_grad_(False).eval()
