"""Animate any Stable Diffusion checkpoint with AnimateDiff, and leave the model bit for bit as it was.

Everything public is importable from here, `motion_module`'s names included. `animate` and `load_pipeline` need
diffusers, which is imported when they are called.
"""

from typing import TYPE_CHECKING, Any

from ._guard import require_own_motion_module

require_own_motion_module()

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.components.base import Component
from lib_animatediff.engine.components.camera_ctrl import CameraCtrlComponent
from lib_animatediff.engine.components.control import ControlComponent, ControlInputs, FrameHints, Residuals
from lib_animatediff.engine.components.cross_frame import CrossFrameAttention
from lib_animatediff.engine.components.domain_adapter import DomainAdapterComponent, apply_domain_adapters
from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.engine.components.image_prompt import FrameTokens, ImagePromptComponent
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.engine.components.pia import PiaComponent
from lib_animatediff.engine.components.sparse_ctrl import GivenFrames, ResidualCache, SparseCtrlComponent
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import Injection, inject
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.engine.reuse.schedule import FeatureReuse
from lib_animatediff.request.camera.drawing import draw_path
from lib_animatediff.request.camera.moves import poses_of_moves
from lib_animatediff.request.camera.unit import CameraUnit
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan, Sampling, plan_clip
from lib_animatediff.request.settings import ClipSettings, parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.ramp import ImageRamp
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.sampling.image_start import LatentRamp
from lib_animatediff.sampling.schedule import use_schedule
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.mask import VideoMask
from motion_module import (
    AnimateDiffError,
    CameraCtrl,
    CameraPose,
    ClipError,
    DomainAdapter,
    ImageEncoder,
    IncompatibleModelError,
    LoraMatch,
    MotionFileError,
    MotionFileInfo,
    MotionLora,
    MotionModule,
    SparseCtrl,
    apply_motion_lora,
    apply_motion_loras,
    convert_motion_file,
    inspect_motion_file,
    is_domain_adapter,
    load_camera_ctrl,
    load_domain_adapter,
    load_image_encoder,
    load_image_input,
    load_motion_lora,
    load_motion_module,
    load_sparse_ctrl,
    match_report,
    parse_poses,
    write_poses,
)

if TYPE_CHECKING:
    from lib_animatediff.hosts.diffusers.animate import animate
    from lib_animatediff.hosts.diffusers.decode import load_decoder
    from lib_animatediff.hosts.diffusers.pipeline import load_pipeline

__version__ = "0.1.0"

MotionAmount = MotionScale  # its earlier name

_OF_DIFFUSERS = {  # imported on first use: the WebUI needs neither
    "animate": "lib_animatediff.hosts.diffusers.animate",
    "load_decoder": "lib_animatediff.hosts.diffusers.decode",
    "load_pipeline": "lib_animatediff.hosts.diffusers.pipeline",
}


def __getattr__(name: str) -> Any:
    """Import the diffusers host when one of its names is first used."""
    if name not in _OF_DIFFUSERS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_OF_DIFFUSERS[name]), name)


__all__ = [
    "AnimateDiffError",
    "CameraCtrl",
    "CameraCtrlComponent",
    "CameraPose",
    "CameraUnit",
    "ClipError",
    "ClipPlan",
    "ClipSettings",
    "Component",
    "ContextWindows",
    "ControlComponent",
    "ControlInputs",
    "ControlUnit",
    "CrossFrameAttention",
    "DomainAdapter",
    "DomainAdapterComponent",
    "FeatureReuse",
    "FrameHints",
    "FrameTokens",
    "GivenFrames",
    "ImageEncoder",
    "ImageEncoderComponent",
    "ImagePromptComponent",
    "ImageRamp",
    "IncompatibleModelError",
    "Injection",
    "LatentRamp",
    "LoraMatch",
    "MotionAmount",
    "MotionComponent",
    "MotionFileError",
    "MotionFileInfo",
    "MotionLora",
    "MotionModule",
    "MotionScale",
    "PiaComponent",
    "Pin",
    "PinnedFrames",
    "ResidualCache",
    "Residuals",
    "Sampling",
    "SparseCtrl",
    "SparseCtrlComponent",
    "Text2VideoZero",
    "UNetCall",
    "VideoMask",
    "VideoStart",
    "__version__",
    "animate",
    "apply_domain_adapters",
    "apply_motion_lora",
    "apply_motion_loras",
    "convert_motion_file",
    "draw_path",
    "inject",
    "inspect_motion_file",
    "is_domain_adapter",
    "load_camera_ctrl",
    "load_decoder",
    "load_domain_adapter",
    "load_image_encoder",
    "load_image_input",
    "load_motion_lora",
    "load_motion_module",
    "load_pipeline",
    "load_sparse_ctrl",
    "match_report",
    "parse_poses",
    "parse_settings",
    "plan_clip",
    "poses_of_moves",
    "use_schedule",
    "write_poses",
]
