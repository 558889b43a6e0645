"""The drawing of a camera path for the panel."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from lib_animatediff.request.camera.drawing import draw_path
from motion_module import AnimateDiffError
from motion_module.camera_ctrl.poses import CameraPose


def camera_drawing(poses: Callable[[], Sequence[CameraPose]]) -> str:
    """HTML with the drawing of a path; empty without one.

    Args:
        poses: returns those of the frames.
    """
    try:
        found = poses()
    except AnimateDiffError as error:
        return f"<p class='animatediff-plan animatediff-advice'>{html.escape(str(error))}</p>"
    if not found:
        return ""
    label = "The camera's path, from the first frame (light) to the last one (dark)"
    return f"<figure class='animatediff-camera' role='img' aria-label=\"{label}\">{draw_path(found).svg()}</figure>"
