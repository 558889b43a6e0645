"""Pluecker rays: for each pixel of each frame, the line on which the camera sees it (arXiv 2404.02101, section 3.1).

A ray is its direction d, of length 1, and its moment o x d, where o is the camera. Poses are relative to the first one.
"""

from __future__ import annotations

from collections.abc import Sequence

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


def pluecker_rays(poses: Sequence[CameraPose], size: tuple[int, int], ratio: float | None = None) -> Tensor:
    """The rays of all pixels, relative to the first pose: ``f 6 H W`` in float32, the moment first.

    Args:
        size: width and height in pixels.
        ratio: see `intrinsics_in_pixels`.
    """
    width, height = size
    pixels = intrinsics_in_pixels(poses, size, ratio)
    fx, fy, cx, cy = (pixels[:, number].view(-1, 1, 1) for number in range(4))
    x = torch.arange(width, dtype=torch.float64).view(1, 1, -1) + 0.5
    y = torch.arange(height, dtype=torch.float64).view(1, -1, 1) + 0.5
    across, down = ((x - cx) / fx).expand(-1, height, -1), ((y - cy) / fy).expand(-1, -1, width)
    seen = torch.stack([across, down, torch.ones_like(across)], dim=-1)
    seen = seen / seen.norm(dim=-1, keepdim=True)
    to_first = relative_poses(poses)
    directions = torch.einsum("fij,fhwj->fhwi", to_first[:, :3, :3], seen)
    origins = to_first[:, None, None, :3, 3].expand_as(directions)
    moments = torch.linalg.cross(origins, directions, dim=-1)
    return torch.cat([moments, directions], dim=-1).permute(0, 3, 1, 2).float()
