"""Embed images, and in the case of CLIP texts, for comparison by cosine similarity.

The paper's metrics use CLIP, VBench's subject consistency uses DINO; both need a folder with weights. Without them, a
small embedder without weights is used. Values of different embedders are not comparable.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from torch import Tensor

from lib_animatediff.video.opencv import need_opencv

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from .flow import Frames

    Rows = NDArray[np.float32]


CLIP, DINO, SMALL = "CLIP", "DINO", "built in"


class Embedder(Protocol):
    """Maps images and texts to unit vectors."""

    @property
    def kind(self) -> str:
        """`CLIP`, `DINO` or `SMALL`."""

    @property
    def name(self) -> str:
        """Short description for the page."""

    def images(self, frames: Frames) -> Tensor:
        """Embed images ``n h w 3``: ``n d``, float32 on the CPU."""

    def text(self, text: str) -> Tensor | None:
        """Embed a text, ``d``; None if this embedder does not support texts."""


class SmallEmbedder:
    """Concatenates descriptors of shape, colour layout and palette. No weights, deterministic.

    Each part has unit length, so the cosine of two images is the mean of three similarities. Shape: histograms of
    oriented gradients (Dalal and Triggs, 2005) with 8 by 8 cells and 9 orientations. Layout: mean Lab colour per cell.
    Palette: square root of a Lab histogram, so that products are Bhattacharyya coefficients. It has no notion of what
    an image shows.
    """

    kind = SMALL
    name = "shapes and colours (small, built in, no weights)"

    def images(self, frames: Frames) -> Tensor:
        """Embed images ``n h w 3``: ``n d``, float32."""
        rows = [self._row(frame) for frame in frames]
        return torch.nn.functional.normalize(torch.from_numpy(np.stack(rows)), dim=1)

    def text(self, text: str) -> None:
        """None: texts are not supported."""

    def _row(self, frame: NDArray[np.uint8]) -> Rows:
        cv2 = need_opencv()
        square = cv2.resize(frame, (_SQUARE, _SQUARE), interpolation=cv2.INTER_AREA)
        lab = cv2.cvtColor(square.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
        return np.concatenate([_unit(part) for part in (_shapes(lab), _layout(lab), _palette(lab))])


_SQUARE, _CELLS, _DIRECTIONS = 128, 8, 9
_CLIPPED = 0.2  # as published: limits the influence of one strong edge on its block
_LAB_MIDDLE, _LAB_RANGE = (50.0, 0.0, 0.0), (50.0, 60.0, 60.0)
_LAB_BINS = 8
_FAINT = 500.0  # sum of gradients below which a cell is noise on a plain surface
_SMALL = 1e-6


def _unit(row: NDArray[np.floating]) -> Rows:
    flat = row.astype(np.float32).ravel()
    return flat / max(float(np.linalg.norm(flat)), _SMALL)


def _shapes(lab: Rows) -> Rows:
    cv2 = need_opencv()
    x, y = (cv2.Sobel(lab, cv2.CV_32F, *axes) for axes in ((1, 0), (0, 1)))
    lengths = np.hypot(x, y)
    strongest = lengths.argmax(axis=2)[..., None]  # channel with the strongest gradient
    length, x, y = (np.take_along_axis(each, strongest, axis=2)[..., 0] for each in (lengths, x, y))
    turn = (np.arctan2(y, x) % np.pi) / np.pi * _DIRECTIONS
    lower = np.floor(turn).astype(int)
    histogram = np.zeros((_DIRECTIONS, _SQUARE, _SQUARE), np.float32)
    rows, columns = np.mgrid[:_SQUARE, :_SQUARE]
    for step, share in ((0, 1 - (turn - lower)), (1, turn - lower)):
        histogram[(lower + step) % _DIRECTIONS, rows, columns] += share * length
    cells = _by_cell(histogram.transpose(1, 2, 0)).sum(axis=(1, 3))
    blocks = np.zeros((_CELLS - 1, _CELLS - 1, 4 * _DIRECTIONS), np.float32)
    for row, column in np.ndindex(_CELLS - 1, _CELLS - 1):
        block = cells[row : row + 2, column : column + 2]
        if block.max() > _FAINT:
            blocks[row, column] = _unit(np.clip(_unit(block), 0, _CLIPPED))
    return blocks


def _by_cell(image: Rows) -> Rows:
    side = _SQUARE // _CELLS
    return image.reshape(_CELLS, side, _CELLS, side, -1)


def _layout(lab: Rows) -> Rows:
    means: Rows = (_by_cell(lab).mean(axis=(1, 3)) - _LAB_MIDDLE) / _LAB_RANGE
    return means


def _palette(lab: Rows) -> Rows:
    """Histogram with trilinear binning, so that small changes of brightness have small effects."""
    place = (np.clip((lab - _LAB_MIDDLE) / _LAB_RANGE, -1, 1) + 1) / 2 * (_LAB_BINS - 1)
    lower = np.minimum(np.floor(place).astype(int), _LAB_BINS - 2)
    over = place - lower
    histogram = np.zeros(_LAB_BINS**3)
    for corner in np.ndindex(2, 2, 2):
        share = np.prod(np.where(corner, over, 1 - over), axis=2)
        bins = np.ravel_multi_index(tuple(np.moveaxis(lower + corner, 2, 0)), (_LAB_BINS,) * 3)
        histogram += np.bincount(bins.ravel(), share.ravel(), len(histogram))
    return _unit(np.sqrt(histogram))


def load_embedder(folder: Path, device: str = "cpu") -> Embedder:
    """Load CLIP or DINO from a folder written by transformers' ``save_pretrained``; ``config.json`` states which.

    Raises:
        EvaluationError: the folder is invalid, or its weights cannot be loaded.
    """
    from . import learned

    return learned.load(folder, device)
