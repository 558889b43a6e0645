"""Contact sheets for the eye."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from .draw import Frames

GAP = 2


def sheet(rows: Sequence[Sequence[Frames]], path: Path, zoom: int = 2) -> Path:
    """Write rows of pictures, h w c each, as a grid."""
    height, width = rows[0][0].shape[:2]
    columns = max(map(len, rows))
    canvas = np.full((len(rows) * (height + GAP) - GAP, columns * (width + GAP) - GAP, 3), 255, np.uint8)
    for r, row in enumerate(rows):
        for c, picture in enumerate(row):
            top, left = r * (height + GAP), c * (width + GAP)
            canvas[top : top + height, left : left + width] = picture
    image = Image.fromarray(canvas)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.resize((image.width * zoom, image.height * zoom), Image.Resampling.NEAREST).save(path)
    return path
