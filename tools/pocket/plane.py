"""The pocket model's world as a plane before a camera that moves.

The plane faces the first frame's camera, whose pixels are the world's. Each further frame is painted by where the rays
of its pixels meet the plane, so that a clip is what its camera sees, to the last pixel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lib_animatediff.request.camera.moves import poses_of_moves
from motion_module.camera_ctrl.poses import CameraPose
from motion_module.camera_ctrl.rays import intrinsics_in_pixels, relative_poses

from .world import FRAMES, SIZE, Scene, paint, path

DEPTH = 3.0  # units from the first frame's camera to the plane: a pan at speed 1 goes 25 pixels
FPS = 8.0


def cameras(moves: str) -> list[CameraPose]:
    """The camera of each frame of a clip, see `poses_of_moves`."""
    return poses_of_moves(moves, FRAMES, FPS)


def plane(poses: Sequence[CameraPose], size: int = SIZE) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pixel of each frame lies on the plane, ``f h w``: x and y in pixels of the first frame, and how many
    pixels of the frame are in one of these.
    """
    fx, fy, cx, cy = intrinsics_in_pixels(poses, (size, size)).T[:, :, None, None]  # f 1 1
    pixels = torch.arange(size, dtype=torch.float64) + 0.5
    straight = (pixels - cx) / fx, (pixels[:, None] - cy) / fy, torch.ones_like(cx)
    seen = torch.stack([each.expand(len(poses), size, size) for each in straight])
    to_first = relative_poses(poses)
    x, y, z = torch.einsum("fij,jfhw->ifhw", to_first[:, :3, :3], seen)
    ox, oy, oz = to_first[:, :3, 3].T[:, :, None, None]
    far = (DEPTH - oz) / z
    across, down = (ox + far * x) / DEPTH * fx[:1] + cx[:1], (oy + far * y) / DEPTH * fy[:1] + cy[:1]
    (xy, xx), (yy, yx) = (torch.gradient(each, dim=(1, 2)) for each in (across, down))
    scale = (xx * yy - xy * yx).abs().rsqrt()
    return across.float(), down.float(), scale.float()


def image_of(poses: Sequence[CameraPose], places: Sequence[tuple[float, float]]) -> list[tuple[float, float, float]]:
    """Where a place of the plane is in the picture of each frame, and how large the world is there.

    Args:
        places: one for each frame, in pixels of the first frame.

    Returns:
        x and y in pixels, and pixels in one of the first frame.
    """
    own = intrinsics_in_pixels(poses, (SIZE, SIZE))
    at = (torch.tensor(places, dtype=torch.float64) - own[:1, 2:]) / own[:1, :2] * DEPTH
    points = torch.cat([at, torch.full_like(at[:, :1], DEPTH), torch.ones_like(at[:, :1])], dim=1)
    x, y, z, _ = torch.einsum("fij,fj->if", torch.linalg.inv(relative_poses(poses)), points)
    fx, fy, cx, cy = own.T
    found: list[tuple[float, float, float]] = torch.stack([fx * x / z + cx, fy * y / z + cy, DEPTH / z], 1).tolist()
    return found


def filmed(scene: Scene, poses: Sequence[CameraPose]) -> Tensor:
    """The frames of a scene as a camera sees them, f c h w from 0 to 1."""
    x, y, scale = plane(poses)
    places = torch.tensor(path(scene))[:, :, None, None]
    return paint([scene] * FRAMES, x - places[:, 0], y - places[:, 1], scale)
