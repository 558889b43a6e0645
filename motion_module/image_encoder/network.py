"""The image encoder of AnimateLCM-I2V: features of an image, which a UNet takes before four of its motion modules.

A table of positions, times a factor, lets the features differ from frame to frame: the larger, the farther the clip
moves from the image. Parameters have the names of the official file.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from motion_module.residual_block import ResidualBlock
from motion_module.temporal_transformer import positional_table

LATENT_CHANNELS = 4
LEVELS = 4  # resolutions of Stable Diffusion 1.5
BLOCKS = 2  # at each resolution
DRIFT = 0.8  # of the official demo, which offers 0 to 1.5


class ImageEncoder(nn.Module):
    """The encoder.

    Attributes:
        widths: channels at each resolution, the finest first.
        name: used in messages; usually the file name.
    """

    def __init__(self, widths: tuple[int, ...], name: str = "image encoder") -> None:
        super().__init__()
        self.widths = widths
        self.name = name
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, widths[0], 3, padding=1)
        before = [widths[max(number - 1, 0) // BLOCKS] for number in range(LEVELS * BLOCKS)]
        each = [width for width in widths for _ in range(BLOCKS)]
        self.body = nn.ModuleList([ResidualBlock(a, b) for a, b in zip(before, each, strict=True)])

    def forward(self, image: Tensor, frames: int, drift: float = DRIFT) -> list[Tensor]:
        """The features at each resolution, the finest first, ``f c h w`` each.

        Args:
            image: its latent, ``4 h w``, scaled as the UNet's.
            frames: of the window.
            drift: how far the frames move from the image; at 0 their features are the same.
        """
        x = self.conv_in(image[None])
        table = positional_table(frames, self.widths[0])[0].to(x.device)
        x = x + (drift * table).to(x.dtype)[:, :, None, None]
        features = []
        for number, block in enumerate(self.body):
            if number and number % BLOCKS == 0:
                x = F.avg_pool2d(_even(x), 2)
            x = block(x)
            if number % BLOCKS == BLOCKS - 1:
                features.append(x)
        return features

    @classmethod
    def _skeleton(cls, widths: tuple[int, ...], name: str) -> ImageEncoder:
        with torch.device("meta"):  # shapes only; the file supplies the weights
            return cls(widths, name)

    @classmethod
    @lru_cache(maxsize=16)
    def expected_shapes(cls, widths: tuple[int, ...]) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every weight of an encoder with these widths."""
        return {key: tuple(tensor.shape) for key, tensor in cls._skeleton(widths, "").state_dict().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], widths: tuple[int, ...], name: str = "image encoder"
    ) -> ImageEncoder:
        """Build a frozen encoder in evaluation mode around the given tensors, which are not copied.

        Raises:
            RuntimeError: a key is missing, unexpected, or of another shape (torch's strict check).
        """
        encoder = cls._skeleton(widths, name)
        encoder.load_state_dict(dict(state), strict=True, assign=True)
        return encoder.requires_grad_(False).eval()


def _even(x: Tensor) -> Tensor:
    """Odd sides are lengthened by their last row or column, so that they are halved as the UNet halves them."""
    height, width = x.shape[2:]
    return F.pad(x, (0, width % 2, 0, height % 2), mode="replicate") if height % 2 or width % 2 else x
