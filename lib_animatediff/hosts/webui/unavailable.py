"""What the WebUI gets where the extension cannot be loaded, such as in a program that lacks a name which it uses.

It stands outside the layers, since none of them can be imported then.
"""

from __future__ import annotations

import html
import logging
from typing import Any

import gradio as gr

from motion_module import ClipError

_log = logging.getLogger(__name__)


def unavailable(script: Any, always_visible: Any, error: Exception) -> type:
    """A script that shows one line in each tab and takes no part in any request.

    An API request that names AnimateDiff is refused by the WebUI itself, which finds no script of that name.

    Args:
        script: the WebUI's class of scripts.
        always_visible: what its `show` returns for a script that is always on.
        error: why the extension cannot be loaded.
    """
    _log.error("AnimateDiff could not be loaded.", exc_info=error)
    reason = ClipError(
        f"AnimateDiff does not run here: {str(error).rstrip('.')}. It runs in the AUTOMATIC1111 WebUI 1.10, Forge and "
        "reForge. If this is one of them, update it, then the extension. The console has more.",
        code="AD-W27",
    )

    class Unavailable(script):  # type: ignore[misc]
        """The line."""

        def title(self) -> str:
            """Another name than AnimateDiff, so that no API client takes it for that."""
            return "AnimateDiff is not available"

        def show(self, is_img2img: bool) -> Any:
            """In both tabs."""
            del is_img2img
            return always_visible

        def ui(self, is_img2img: bool) -> list[Any]:
            """The line; no component whose value a hook would receive."""
            del is_img2img
            gr.HTML(f"<p class='animatediff-clash'>{html.escape(str(reason))}</p>")
            return []

    return Unavailable
