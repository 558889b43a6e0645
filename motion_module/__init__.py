"""What a motion module is: its network, its kinds, its files. Needs torch, einops and safetensors only."""

from .errors import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError
from .loading import load_motion_module
from .lora import MotionLora, apply_motion_lora, load_motion_lora
from .network import MotionModule

__all__ = [
    "AnimateDiffError",
    "ClipError",
    "IncompatibleModelError",
    "MotionFileError",
    "MotionLora",
    "MotionModule",
    "apply_motion_lora",
    "load_motion_lora",
    "load_motion_module",
]
