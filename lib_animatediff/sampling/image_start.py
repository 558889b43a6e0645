"""Image to video with a fading share of the image in the initial latents: ``latent_power`` and ``latent_scale``.

Frame i of a clip starts from ``share * image + (1 - share) * noise`` with ``share = max(0, 1 - i^power / scale)``. The
formulas are those of sd-webui-animatediff, whose clients send these settings. The variance of such latents is below 1
between the ends, so that clips look washed out; `sampling.inversion` has no such loss.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from motion_module import ClipError


@dataclass(frozen=True)
class LatentRamp:
    """How the share of an image falls with the distance from its frame.

    Attributes:
        power: ``latent_power``, 0 or more. Above 1 the share falls late, below 1 early.
        scale: ``latent_scale``, above 0: the distance at which nothing is left, for a power of 1.

    Raises:
        ClipError: a value is out of range.
    """

    power: float = 1.0
    scale: float = 32.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.power) and math.isfinite(self.scale) and self.power >= 0 and self.scale > 0):
            raise ClipError(
                f"latent_power must be 0 or more and latent_scale above 0, not {self.power} and {self.scale}.",
                code="AD-S09",
            )

    def shares(self, frames: int) -> Tensor:
        """The share of the image in each frame, counted from the image's own: ``f``, float64."""
        distance = torch.arange(frames, dtype=torch.float64)
        return (1 - distance**self.power / self.scale).clamp(min=0)


def first_and_last_shares(frames: int, first: LatentRamp, last: LatentRamp) -> tuple[Tensor, Tensor]:
    """The shares of the first and of the last image in each frame: ``f`` each, float64.

    Where both together are above 1, they are divided by their sum. The first and the last frame have their own image
    alone.
    """
    shares = torch.stack([first.shares(frames), last.shares(frames).flip(0)])
    shares = shares / shares.sum(dim=0).clamp(min=1)
    shares[:, -1] = torch.tensor([0.0, 1.0])
    shares[:, 0] = torch.tensor([1.0, 0.0])
    return shares[0], shares[1]


def image_start(
    noise: Tensor, image: Tensor, first: LatentRamp, last_image: Tensor | None = None, last: LatentRamp | None = None
) -> Tensor:
    """Latents that a clip from an image starts from.

    Args:
        noise: unit noise of the frames, ``f c h w``.
        image: latents of the first frame's image, ``c h w``; ``f c h w`` with one for each frame.
        first: how its share falls.
        last_image: latents of the last frame's image, ``c h w``; None: there is none.
        last: how its share falls; None: as in a `LatentRamp` of its own.

    Returns:
        A tensor like ``noise``, computed in float32.
    """
    frames = len(noise)
    if last_image is None:
        shares = [(first.shares(frames), image)]
    else:
        both = first_and_last_shares(frames, first, last or LatentRamp())
        shares = list(zip(both, (image, last_image), strict=True))
    rest = 1 - torch.stack([share for share, _ in shares]).sum(dim=0)
    mixed = noise.float() * _per_frame(rest, noise)
    for share, one in shares:
        mixed = mixed + one.to(noise.device, torch.float32) * _per_frame(share, noise)
    return mixed.to(noise.dtype)


def _per_frame(shares: Tensor, like: Tensor) -> Tensor:
    return shares.to(like.device, torch.float32)[:, None, None, None]
