"""How far near and far layers of the scenery move in a clip, by optical flow beside the subject."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from lib_animatediff.evaluation.flow import flow_of
from tools.pocket.pictures import to_bytes
from tools.village.board import UNITS
from tools.village.scene import CAMERA_MOVES, MARGIN, VANISHING_POINT

from .probe import Judge

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Rows of the picture, in shares of it, where a layer is seen: hills and roofs; the ground in front.
FAR_ROWS, NEAR_ROWS = (0.36, 0.56), (0.80, 1.0)
EDGE = 8.0  # levels of a luma gradient that flow can follow
HALF = 64.0  # pixels from the vanishing point at which a zoom's way is measured


@dataclass(frozen=True)
class Ways:
    """Ways over the clip in pixels: along a pan; of a zoom, outward at half a picture from the vanishing point."""

    near: float
    far: float


def ways(judge: Judge, frames: Tensor, move: str) -> Ways:
    """Measure a clip, f c h w from 0 to 1, that should show a move of `CAMERA_MOVES`."""
    middles = [(each.x, each.y) for each in judge(frames)]
    found = flow_of(to_bytes(frames).permute(0, 2, 3, 1).contiguous().numpy())
    pan, _ = CAMERA_MOVES[move]
    near = far = 0.0
    for number, field in enumerate(found.forward):
        edges = _edges(found.frames[number])
        beside = edges * _beside(middles[number], edges.shape)
        for rows, band in ((NEAR_ROWS, "near"), (FAR_ROWS, "far")):
            way = _way(field / found.scale, beside, rows, pan, found.scale)
            near, far = (near + way, far) if band == "near" else (near, far + way)
    return Ways(near, far)


def _edges(frame: NDArray[np.uint8]) -> NDArray[Any]:
    """1 where luma changes across, so that a flow to the side can be seen, 0 elsewhere."""
    luma = frame.astype(np.float32).mean(axis=2)
    across = np.abs(np.gradient(luma, axis=1))
    found: NDArray[Any] = (across > EDGE).astype(np.float32)
    return found


def _beside(middle: tuple[float, float], shape: tuple[int, ...]) -> NDArray[Any]:
    """1 beside the subject, 0 where it is."""
    height, width = shape
    y, x = np.mgrid[:height, :width]
    reach = MARGIN / UNITS
    inside = (np.abs(x / width - middle[0]) < reach) & (np.abs(y / height - middle[1]) < reach)
    found: NDArray[Any] = (~inside).astype(np.float32)
    return found


def _way(field: NDArray[Any], weight: NDArray[Any], rows: tuple[float, float], pan: float, scale: float) -> float:
    """One step's way in a band, in pixels of the clip."""
    height, width = weight.shape
    band = slice(int(rows[0] * height), int(rows[1] * height))
    counted = weight[band] > 0
    if not counted.any():
        return 0.0
    across = field[band, :, 0][counted]
    if pan:
        return float(-np.sign(pan) * np.median(across))
    x = (np.mgrid[:height, :width][1][band] - VANISHING_POINT[0] / UNITS * width)[counted] / scale
    return float((across * x).sum() / np.square(x).sum() * HALF)
