"""Pluecker rays: for each pixel of each frame, the line on which the camera sees it (arXiv 2404.02101, section 3.1).

A ray is its direction d, of length 1, and its moment o x d, where o is the camera. Poses are relative to the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .poses import CameraPose

CHANNELS = 6
SOURCE_RATIO = 1280 / 720  # of the videos that CameraCtrl's focal lengths are of, as in its code


def relative_poses(poses: Sequence[CameraPose]) -> Tensor:
    """From each camera to the first one, ``f 4 4`` in float64; that of the first is the identity."""
    to_camera = torch.eye(4, dtype=torch.float64).repeat(len(poses), 1, 1)
    to_camera[:, :3] = torch.tensor([pose.matrix for pose in poses], dtype=torch.float64).view(-1, 3, 4)
    found: Tensor = to_camera[:1] @ torch.linalg.inv(to_camera)
    found[0] = torch.eye(4)  # without rounding
    return found


def intrinsics_in_pixels(poses: Sequence[CameraPose], size: tuple[int, int], ratio: float | None = None) -> Tensor:
    """``f 4``: focal lengths and centre in pixels, as if the source were resized to cover the clip.

    Args:
        size: width and height in pixels.
        ratio: width by height of the clip, where it is not that of ``size``.
    """
    width, height = size
    ratio = width / height if ratio is None else ratio
    given = torch.tensor([(pose.fx, pose.fy, pose.cx, pose.cy) for pose in poses], dtype=torch.float64)
    wider = SOURCE_RATIO / ratio  # above 1: the source's sides are cut off
    scale = (width * max(wider, 1.0), height * max(1 / wider, 1.0), width, height)
    return given * torch.tensor(scale, dtype=torch.float64)


def pluecker_rays(
    poses: Sequence[CameraPose],
    size: tuple[int, int],
    ratio: float | None = None,
    place: Callable[[Tensor], Tensor] = torch.clone,
) -> Tensor:
    """The rays of all pixels, relative to the first pose: ``f 6 H W`` in float32, the moment first.

    Matrices are computed in float64 in main memory, and what has the size of images by single products on the device,
    since products of matrices may be in TF32 there.

    Args:
        size: width and height in pixels.
        ratio: see `intrinsics_in_pixels`.
        place: brings tensors to the device of the result, by default main memory.
    """
    width, height = size
    fx, fy, cx, cy = intrinsics_in_pixels(poses, size, ratio).T
    across = (torch.arange(width, dtype=torch.float64) + 0.5 - cx[:, None]) / fx[:, None]
    down = (torch.arange(height, dtype=torch.float64) + 0.5 - cy[:, None]) / fy[:, None]
    x, y = (place(each.float()) for each in (across[:, None], down[:, :, None]))  # f 1 W, f H 1
    z = torch.rsqrt(x * x + y * y + 1)
    seen = x * z, y * z, z
    matrices = place(relative_poses(poses).float())[:, :3, :, None, None]  # f i j 1 1
    dx, dy, dz = (r[:, 0] * seen[0] + r[:, 1] * seen[1] + r[:, 2] * seen[2] for r in matrices.unbind(1))
    ox, oy, oz = (matrices[:, row, 3] for row in range(3))
    return torch.stack([oy * dz - oz * dy, oz * dx - ox * dz, ox * dy - oy * dx, dx, dy, dz], dim=1)
