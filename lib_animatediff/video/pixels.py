"""The pixels of an image as a tensor."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def levels_of(image: Image) -> Tensor:
    """``h w c``, uint8: the levels of an image whose channels have 8 bits each; a grey one has one channel."""
    import torch

    levels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    return levels.reshape(image.height, image.width, -1)
