"""OpenCV, which is not always installed."""

from __future__ import annotations

from typing import Any

from motion_module import AnimateDiffError


def need_opencv(purpose: str = "Optical flow") -> Any:
    """Import OpenCV.

    Args:
        purpose: what needs it, for the message.

    Raises:
        AnimateDiffError: it is not installed, or cannot be loaded.
    """
    try:
        import cv2
    except ImportError as error:
        raise AnimateDiffError(
            f"{purpose} needs OpenCV, which cannot be loaded ({error}). Install it: pip install opencv-python-headless",
            code="AD-V66",
        ) from None
    return cv2
