"""Conditions between two prompts: what the UNet sees at the frames between two keys of a travel."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .travel import STEP, Blend

# Beyond this cosine two directions are as good as one (or opposite, with no shortest way between them).
_STRAIGHT = 0.9995


def slerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """Vectors on the way from ``a`` to ``b`` along the arc that their directions span.

    Each vector is weighted as its directions' angle tells, with its own length; where the two point the same way, the
    opposite way, or nowhere, they are mixed linearly.

    Args:
        a, b: ``(... c)``, vectors along the last dimension.
        weight: of ``b``, 0 to 1; a tensor must fit ``(... 1)``.
    """
    dtype = _accumulating(a)
    one, other = a.to(dtype), b.to(dtype)
    part = torch.as_tensor(weight, dtype=dtype, device=a.device)
    lengths = one.norm(dim=-1, keepdim=True) * other.norm(dim=-1, keepdim=True)
    cosine = (one * other).sum(-1, keepdim=True) / torch.where(lengths > 0, lengths, 1)
    straight = (cosine.abs() > _STRAIGHT) | (lengths == 0)
    angle = torch.where(straight, 0.5, cosine.clamp(-1, 1)).acos()  # any angle will do where it is not used
    arc = (((1 - part) * angle).sin() * one + (part * angle).sin() * other) / angle.sin()
    return torch.where(straight, torch.lerp(one, other, part), arc).to(a.dtype)


def lerp(a: Tensor, b: Tensor, weight: float | Tensor) -> Tensor:
    """Vectors on the straight way from ``a`` to ``b``; as in `slerp`."""
    dtype = _accumulating(a)
    part = torch.as_tensor(weight, dtype=dtype, device=a.device)
    return torch.lerp(a.to(dtype), b.to(dtype), part).to(a.dtype)


_MIXTURES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "slerp": slerp,
    "linear": lerp,
    STEP: lambda a, _b, _weight: a,
}


def blend_rows(cond: Tensor, blends: Sequence[Blend], interpolation: str) -> Tensor:
    """Each frame's condition, made of those of two frames.

    A frame that is all of one keeps it bit for bit. So do those entries of a vector ``(f c)`` in which the two agree:
    SDXL's carries the image's size behind the prompt's summary.

    Args:
        cond: ``(f ...)``, where frames that ``blends`` refer to hold the conditions of their own prompts.
        blends: of each frame.
        interpolation: one of `INTERPOLATIONS`, for each token by itself.
    """
    out = cond[[blend.second if blend.weight == 1 else blend.first for blend in blends]]
    moving = [frame for frame, blend in enumerate(blends) if 0 < blend.weight < 1]
    if not moving:
        return out
    a, b = out[moving], cond[[blends[frame].second for frame in moving]]
    weights = torch.tensor([blends[frame].weight for frame in moving], dtype=_accumulating(cond), device=cond.device)
    weights = weights.reshape(-1, *[1] * (cond.dim() - 1))
    if cond.dim() == 2:
        differ = a != b
        mixed = _MIXTURES[interpolation](a * differ, b * differ, weights)
        out[moving] = torch.where(differ, mixed, a)
    else:
        out[moving] = _MIXTURES[interpolation](a, b, weights)
    return out


def _accumulating(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)
