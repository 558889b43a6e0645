"""What a motion module is: its network, its kinds, its files. Needs torch, einops and safetensors only."""

from motion_module.camera_ctrl.load import load_camera_ctrl
from motion_module.camera_ctrl.network import CameraCtrl
from motion_module.camera_ctrl.poses import CameraPose, parse_poses, write_poses
from motion_module.files.convert import convert_motion_file
from motion_module.files.inspect import MotionFileInfo, inspect_motion_file
from motion_module.files.load import load_motion_module
from motion_module.image_encoder.load import load_image_encoder
from motion_module.image_encoder.network import ImageEncoder
from motion_module.image_input import load_image_input
from motion_module.lora.domain_adapter import DomainAdapter, is_domain_adapter, load_domain_adapter
from motion_module.lora.motion_lora import (
    LoraMatch,
    MotionLora,
    apply_motion_lora,
    apply_motion_loras,
    load_motion_lora,
    match_report,
)
from motion_module.sparse_ctrl.load import load_sparse_ctrl
from motion_module.sparse_ctrl.network import SparseCtrl

from .errors import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError
from .network import MotionModule

__all__ = [
    "AnimateDiffError",
    "CameraCtrl",
    "CameraPose",
    "ClipError",
    "DomainAdapter",
    "ImageEncoder",
    "IncompatibleModelError",
    "LoraMatch",
    "MotionFileError",
    "MotionFileInfo",
    "MotionLora",
    "MotionModule",
    "SparseCtrl",
    "apply_motion_lora",
    "apply_motion_loras",
    "convert_motion_file",
    "inspect_motion_file",
    "is_domain_adapter",
    "load_camera_ctrl",
    "load_domain_adapter",
    "load_image_encoder",
    "load_image_input",
    "load_motion_lora",
    "load_motion_module",
    "load_sparse_ctrl",
    "match_report",
    "parse_poses",
    "write_poses",
]
