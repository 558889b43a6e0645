"""What a motion module is: its network, its kinds, its files. Needs torch, einops and safetensors only."""

from .convert import convert_motion_file
from .errors import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError
from .inspection import MotionFileInfo, inspect_motion_file
from .loading import load_motion_module
from .lora import MotionLora, apply_motion_lora, load_motion_lora
from .network import MotionModule

__all__ = [
    "AnimateDiffError",
    "ClipError",
    "IncompatibleModelError",
    "MotionFileError",
    "MotionFileInfo",
    "MotionLora",
    "MotionModule",
    "apply_motion_lora",
    "convert_motion_file",
    "inspect_motion_file",
    "load_motion_lora",
    "load_motion_module",
]
