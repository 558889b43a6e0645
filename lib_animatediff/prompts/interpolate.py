"""Interpolate conditionings between the keyframes of a prompt travel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from lib_animatediff.engine.host_tensor import HostTensor

from .travel import STEP, Blend

# Cosine above which two directions count as parallel (or opposite, with no unique shortest arc).
_STRAIGHT = 0.9995


def slerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """Spherical interpolation from ``a`` to ``b``, along the arc between their directions.

    Weights follow from the angle between the directions; lengths are kept. Parallel, opposite and zero vectors are
    interpolated linearly.

    Args:
        a, b: vectors along the last dimension, ``... c``.
        weight: of ``b``, 0 to 1; a tensor must broadcast to ``... 1``.
    """
    dtype = _accumulating(a)
    one, other = a.to(dtype), b.to(dtype)
    part = torch.as_tensor(weight, dtype=dtype, device=a.device)
    lengths = one.norm(dim=-1, keepdim=True) * other.norm(dim=-1, keepdim=True)
    cosine = (one * other).sum(-1, keepdim=True) / torch.where(lengths > 0, lengths, 1)
    straight = (cosine.abs() > _STRAIGHT) | (lengths == 0)
    angle = torch.where(straight, 0.5, cosine.clamp(-1, 1)).acos()  # arbitrary where the arc is not used
    arc = (((1 - part) * angle).sin() * one + (part * angle).sin() * other) / angle.sin()
    return torch.where(straight, torch.lerp(one, other, part), arc).to(a.dtype)


def lerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """Linear interpolation from ``a`` to ``b``; arguments as in `slerp`."""
    dtype = _accumulating(a)
    part = torch.as_tensor(weight, dtype=dtype, device=a.device)
    return torch.lerp(a.to(dtype), b.to(dtype), part).to(a.dtype)


_MIXTURES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "slerp": slerp,
    "linear": lerp,
    STEP: lambda a, _b, _weight: a,
}


def blend_rows(cond: Tensor, blends: Sequence[Blend], interpolation: str) -> Tensor:
    """Conditioning of each frame, interpolated between those of two frames.

    Frames with a single source keep its values bit for bit. So do entries of pooled vectors ``f c`` that are equal in
    both sources: SDXL appends the image size to the pooled prompt.

    Args:
        cond: ``f ...``; the frames that ``blends`` refer to contain the conditionings of their own prompts.
        blends: one per frame.
        interpolation: one of `INTERPOLATIONS`, applied per token.
    """
    out = _rows(cond, [blend.second if blend.weight == 1 else blend.first for blend in blends])
    moving = [frame for frame, blend in enumerate(blends) if 0 < blend.weight < 1]
    if not moving:
        return out
    a, b = _rows(out, moving), _rows(cond, [blends[frame].second for frame in moving])
    given = torch.tensor([blends[frame].weight for frame in moving], dtype=_accumulating(cond))
    weights = HostTensor(given).on(cond.device).reshape(-1, *[1] * (cond.dim() - 1))
    if cond.dim() == 2:
        differ = a != b
        mixed = _MIXTURES[interpolation](a * differ, b * differ, weights)
        mixed = torch.where(differ, mixed, a)
    else:
        mixed = _MIXTURES[interpolation](a, b, weights)
    return out.index_copy(0, HostTensor(moving).on(cond.device), mixed)


def _rows(cond: Tensor, rows: Sequence[int]) -> Tensor:
    return cond.index_select(0, HostTensor(rows).on(cond.device))


def _accumulating(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)
