"""What a motion module is: its network, its kinds, its files. Needs torch, einops and safetensors only."""

from .convert import convert_motion_file
from .domain import DomainAdapter, is_domain_adapter, load_domain_adapter
from .errors import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError
from .inspection import MotionFileInfo, inspect_motion_file
from .loading import load_motion_module
from .lora import LoraMatch, MotionLora, apply_motion_lora, apply_motion_loras, load_motion_lora, match_report
from .network import MotionModule

__all__ = [
    "AnimateDiffError",
    "ClipError",
    "DomainAdapter",
    "IncompatibleModelError",
    "LoraMatch",
    "MotionFileError",
    "MotionFileInfo",
    "MotionLora",
    "MotionModule",
    "apply_motion_lora",
    "apply_motion_loras",
    "convert_motion_file",
    "inspect_motion_file",
    "is_domain_adapter",
    "load_domain_adapter",
    "load_motion_lora",
    "load_motion_module",
    "match_report",
]
