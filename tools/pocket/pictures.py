"""Contact sheets and clips for the eye."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

GAP = 2


def sheet(rows: Tensor, path: Path, zoom: int = 2) -> Path:
    """Write pictures, r n c h w from 0 to 1, as a grid of r rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    grid(rows, zoom).save(path)
    return path


def grid(rows: Tensor, zoom: int = 2) -> Image.Image:
    """Pictures, r n c h w from 0 to 1, side by side in r rows."""
    r, n, c, h, w = rows.shape
    canvas = torch.ones(c, r * (h + GAP) - GAP, n * (w + GAP) - GAP)
    for row in range(r):
        for column in range(n):
            top, left = row * (h + GAP), column * (w + GAP)
            canvas[:, top : top + h, left : left + w] = rows[row, column]
    image = Image.fromarray(to_bytes(canvas).permute(1, 2, 0).contiguous().numpy())
    return image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST)


def to_bytes(pictures: Tensor) -> Tensor:
    """Values from 0 to 1 as bytes."""
    return (pictures.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
