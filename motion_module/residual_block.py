"""The residual block of T2I-Adapter, of which the encoders of images and of cameras are built."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class ResidualBlock(nn.Module):
    """Two convolutions beside what comes in; a 1x1 convolution changes the width first, where it differs."""

    def __init__(self, before: int, channels: int) -> None:
        super().__init__()
        if before != channels:
            self.in_conv = nn.Conv2d(before, channels, 1)
        self.block1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.block2 = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """``n c h w``."""
        if hasattr(self, "in_conv"):
            x = self.in_conv(x)
        return x + self.block2(F.relu(self.block1(x)))  # type: ignore[no-any-return]
