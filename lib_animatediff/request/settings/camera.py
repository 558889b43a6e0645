"""The camera of a clip: entries of the settings table."""

from __future__ import annotations

from lib_animatediff.request.camera.moves import parse_moves
from lib_animatediff.request.camera.unit import MOST_STRENGTH
from lib_animatediff.request.motion_scale import parse_frames

from .setting import CAMERA, LONGEST_CLIP, checked_by, further

_FULL = "1"
_POSES = ".txt"  # suffix of files of poses
_MOST_EVERY = 1_000


def is_pose_file(text: str) -> bool:
    """Whether a camera is the path of a file of poses; otherwise it is named moves."""
    return text.strip().lower().endswith(_POSES)


def _checked_camera(text: str) -> str:
    if not is_pose_file(text):
        parse_moves(text)
    return "; ".join(part.strip() for part in text.strip().splitlines())


PATH = further(
    "",
    "Camera",
    "How the camera moves, such as pan-left 0.5, zoom-in 0.3; 8: static. Or a file of poses (.txt) in the WebUI's own "
    "folders.",
    CAMERA,
    parse=_checked_camera,
)
MODEL = further(
    "",
    "CameraCtrl model",
    "File that makes the clip follow the camera, such as CameraCtrl_pruned.safetensors, with the v3 motion module.",
    CAMERA,
)
STRENGTH = further(
    _FULL,
    "Camera strength",
    f"Strength of the camera over the frames, from 0 to {MOST_STRENGTH:g}, such as 0.8 or 0: 1, 12: 0.4.",
    CAMERA,
    accepts_numbers=True,
    parse=checked_by(lambda text: parse_frames("camera_strength", text, LONGEST_CLIP, MOST_STRENGTH)),
)
START = further(
    0.0,
    "Camera start",
    "Fraction of the sampling steps after which the camera begins to act.",
    CAMERA,
    minimum=0,
    maximum=1,
)
END = further(
    1.0,
    "Camera end",
    "Fraction of the sampling steps after which the camera no longer acts.",
    CAMERA,
    minimum=0,
    maximum=1,
)
EVERY = further(
    1,
    "Every n-th pose",
    "Takes each n-th pose of a file, such as 4 of a video with 30 frames per second.",
    CAMERA,
    minimum=1,
    maximum=_MOST_EVERY,
)
