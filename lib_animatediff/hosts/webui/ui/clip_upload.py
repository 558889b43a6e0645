"""A place in the panel to drop the clip to continue, which fills in its path."""

from __future__ import annotations

from typing import Any

import gradio as gr

TYPES = [".mp4", ".webm", ".avif", ".gif", ".webp", ".png"]  # of clips


def clip_upload(tab: str, path: Any) -> None:
    """Add the place to the panel.

    Args:
        path: the field of the setting ``continue_clip``.
    """
    file = gr.File(
        label="Upload the clip to continue",
        file_types=TYPES,
        elem_id=f"animatediff_{tab}_continue_clip_upload",
        elem_classes=["animatediff-drop"],
    )
    file.do_not_save_to_config = True
    quietly = {"show_progress": False, "queue": False}
    file.upload(lambda given: given.name, inputs=[file], outputs=[path], **quietly)
    file.clear(lambda: "", inputs=[], outputs=[path], **quietly)
    path.change(_left, inputs=[path], outputs=[file], **quietly)


def _left(path: str) -> Any:
    """No file without a path; with one it stays."""
    return gr.update() if path else None
