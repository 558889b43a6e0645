"""What a motion module is: its network, its kinds, its files. Needs torch, einops and safetensors only."""

from .errors import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError
from .loading import load_motion_module
from .network import MotionModule

__all__ = [
    "AnimateDiffError",
    "ClipError",
    "IncompatibleModelError",
    "MotionFileError",
    "MotionModule",
    "load_motion_module",
]
