"""What we do with a motion module: animate any Stable Diffusion 1.5 UNet, and leave it exactly as it was."""

from motion_module import AnimateDiffError, ClipError, IncompatibleModelError, MotionFileError

from .amounts import MotionAmount
from .injection import inject
from .schedule import use_schedule
from .text2video_zero import Text2VideoZero
from .windows import ContextWindows

__version__ = "0.1.0"

__all__ = [
    "AnimateDiffError",
    "ClipError",
    "ContextWindows",
    "IncompatibleModelError",
    "MotionAmount",
    "MotionFileError",
    "Text2VideoZero",
    "__version__",
    "inject",
    "use_schedule",
]
