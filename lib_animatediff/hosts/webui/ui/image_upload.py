"""A place in the panel to drop an image, which stores it and fills in its path."""

from __future__ import annotations

from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.uploads import kept_image
from lib_animatediff.request.settings import Setting
from motion_module import AnimateDiffError

OFFERED = ("image", "last_image", "last_frame")


def image_upload(tab: str, setting: Setting, path: Any) -> None:
    """Add the place to the panel.

    Args:
        setting: one of `OFFERED`.
        path: its field.
    """
    image = gr.Image(
        label=f"Upload: {setting.label}",
        type="pil",
        image_mode="RGBA",
        elem_id=f"animatediff_{tab}_{setting.name}_upload",
        height=140,
    )
    image.do_not_save_to_config = True
    quietly = {"show_progress": False, "queue": False}
    image.upload(_stored, inputs=[image], outputs=[path], **quietly)
    image.clear(lambda: "", inputs=[], outputs=[path], **quietly)
    path.change(_left, inputs=[path], outputs=[image], **quietly)


def _stored(image: Any) -> Any:
    """The path of an uploaded image. The page shows why one cannot be stored."""
    try:
        return "" if image is None else kept_image(image)
    except AnimateDiffError as error:
        raise gr.Error(str(error)) from error


def _left(path: str) -> Any:
    """No image without a path; with one it stays."""
    return gr.update() if path else None
