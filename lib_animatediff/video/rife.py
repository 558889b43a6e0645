"""RIFE, a network for the image between two images (Huang et al. 2022, arXiv 2011.06294), in its fourth version.

Five blocks estimate the flow from the image in between to both images, from coarse to fine. Each sees the images as
the flow so far warps them, and adds to it. The layout is that of the published weights.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor

_SCALES = (16, 8, 4, 2, 1)  # of the blocks: the sides of the images are divided by these
_BLOCK_SCALE = 4  # by which a block divides the sides once more
SIDE_MULTIPLE = _SCALES[0] * _BLOCK_SCALE  # pixels
_WIDTHS = (192, 128, 96, 64, 32)
_LAYERS = 8  # of each block
_RGB = 3
_FEATURES = 4  # channels of an image's features
_HIDDEN = 16  # channels inside their encoder
_FLOW, _MASK, _CARRIED = 4, 1, 8  # channels that a block returns; the last ones are for the next block
_SLOPE = 0.2  # of the leaky ReLU
_IMAGES = 2 * (_RGB + _FEATURES) + 1  # channels of two images, their features and the time


class Rife(nn.Module):
    """The network. Its weights are those of `load_state_dict`."""

    def __init__(self) -> None:
        super().__init__()
        self.encode = _Encoder()
        for number, width in enumerate(_WIDTHS):
            channels = _IMAGES + (_FLOW + _MASK + _CARRIED if number else 0)
            self.add_module(f"block{number}", _Block(channels, width))

    def forward(self, before: Tensor, after: Tensor, time: float) -> Tensor:
        """The image at a share of the time from one to the other, 0 to 1.

        Args:
            before, after: ``b c h w``, from 0 to 1, with sides that are multiples of `SIDE_MULTIPLE`. The first three
                channels are RGB; the flow is theirs, and the others follow it.

        Returns:
            ``b c h w``.
        """
        originals = [torch.cat((image, self.encode(image[:, :_RGB])), 1) for image in (before, after)]
        now = before.new_full((len(before), 1, *before.shape[2:]), time)
        flow, rest = None, None
        warped = originals
        for number, scale in enumerate(_SCALES):
            known = _known(warped, now, rest)
            added, rest = getattr(self, f"block{number}")(known, flow, scale)
            flow = added if flow is None else flow + added
            warped = [_warped(image, one) for image, one in zip(originals, flow.chunk(2, 1), strict=True)]
        assert rest is not None
        weight = torch.sigmoid(rest[:, :_MASK])
        one, other = (image[:, :-_FEATURES] for image in warped)
        return one * weight + other * (1 - weight)


class _Encoder(nn.Module):
    """Features of an image, at its size."""

    def __init__(self) -> None:
        super().__init__()
        self.cnn0 = nn.Conv2d(_RGB, _HIDDEN, 3, 2, 1)
        self.cnn1 = nn.Conv2d(_HIDDEN, _HIDDEN, 3, 1, 1)
        self.cnn2 = nn.Conv2d(_HIDDEN, _HIDDEN, 3, 1, 1)
        self.cnn3 = nn.ConvTranspose2d(_HIDDEN, _FEATURES, 4, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        for layer in (self.cnn0, self.cnn1, self.cnn2):
            image = F.leaky_relu(layer(image), _SLOPE)
        features: Tensor = self.cnn3(image)
        return features


class _Residual(nn.Module):
    """A convolution beside a connection, with a learned share for each channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, 1, 1)
        self.beta = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, hidden: Tensor) -> Tensor:
        return F.leaky_relu(self.conv(hidden) * self.beta + hidden, _SLOPE)


class _Block(nn.Module):
    """Adds to the flow, at its scale."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv0 = nn.Sequential(_halving(channels, width // 2), _halving(width // 2, width))
        self.convblock = nn.Sequential(*(_Residual(width) for _ in range(_LAYERS)))
        made = 4 * (_FLOW + _MASK + _CARRIED)  # four pixels each, which the shuffle sets out
        self.lastconv = nn.Sequential(nn.ConvTranspose2d(width, made, 4, 2, 1), nn.PixelShuffle(2))

    def forward(self, known: Tensor, flow: Tensor | None, scale: int) -> tuple[Tensor, Tensor]:
        """What is added to the flow, in pixels of the images, and mask and features."""
        small = _resized(known, 1 / scale)
        if flow is not None:
            small = torch.cat((small, _resized(flow, 1 / scale) / scale), 1)
        made = _resized(self.lastconv(self.convblock(self.conv0(small))), scale)
        return made[:, :_FLOW] * scale, made[:, _FLOW:]


def _halving(channels: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1), nn.LeakyReLU(_SLOPE))


def _known(images: list[Tensor], now: Tensor, rest: Tensor | None) -> Tensor:
    """The input of a block, in the order of its weights: images, features, time, and what the block before returned."""
    parts = [*(image[:, :_RGB] for image in images), *(image[:, -_FEATURES:] for image in images), now]
    return torch.cat(parts if rest is None else [*parts, rest], 1)


def _resized(image: Tensor, factor: float) -> Tensor:
    return image if factor == 1 else F.interpolate(image, scale_factor=factor, mode="bilinear", align_corners=False)


def _warped(image: Tensor, flow: Tensor) -> Tensor:
    """The image, sampled at ``x + flow(x)``; ``flow`` in pixels, x and y."""
    height, width = image.shape[2:]
    y, x = (torch.linspace(-1, 1, side, dtype=image.dtype, device=image.device) for side in (height, width))
    here = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)
    half = torch.tensor(((width - 1) / 2, (height - 1) / 2), dtype=image.dtype, device=image.device)
    places = here + flow.permute(0, 2, 3, 1) / half
    return F.grid_sample(image, places, mode="bilinear", padding_mode="border", align_corners=True)
