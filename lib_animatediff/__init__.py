"""What we do with a motion module: animate any Stable Diffusion 1.5 UNet, and leave it exactly as it was."""

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import inject
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.sampling.schedule import use_schedule
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from motion_module import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError

__version__ = "0.1.0"

MotionAmount = MotionScale  # its earlier name

__all__ = [
    "AnimateDiffError",
    "ClipError",
    "ContextWindows",
    "IncompatibleModelError",
    "MotionAmount",
    "MotionFileError",
    "MotionScale",
    "Text2VideoZero",
    "__version__",
    "inject",
    "use_schedule",
]
