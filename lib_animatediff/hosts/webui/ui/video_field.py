"""A place in the panel to drop a source video, which shows it and fills in its path and its rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.sources import find_source
from lib_animatediff.request.start.taken_over import Names, examined
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video.source import Source
from motion_module import AnimateDiffError

_ALL = 0  # frames: as many as the video has


def video_upload(tab: str, path: Any, frames: Any, fps: Any) -> None:
    """Add the place to the panel.

    Args:
        path: the field of the setting ``video``.
        frames, fps: the fields that an uploaded video changes.
    """
    video = gr.Video(label="Upload a video", source="upload", height=200, elem_id=f"animatediff_{tab}_video_upload")
    video.do_not_save_to_config = True
    quietly = {"show_progress": False, "queue": False}
    video.upload(_taken, inputs=[video], outputs=[path, frames, fps], **quietly)
    video.clear(lambda: "", inputs=[], outputs=[path], **quietly)
    path.change(_shown, inputs=[path, video], outputs=[video], **quietly)


def _taken(uploaded: str) -> tuple[Any, Any, Any]:
    """Path, number of frames and rate; a video that cannot be used keeps the others, and is refused by Generate."""
    try:
        path, _ = find_source(uploaded)
        rate = examined(VideoStart(Source(path)), _ALL, is_muted=True, names=Names()).rate
    except AnimateDiffError:
        return uploaded, gr.update(), gr.update()
    return uploaded, _ALL, rate


def _shown(path: str, uploaded: str | None) -> Any:
    """The uploaded video as long as its path is in the field."""
    return gr.update() if uploaded and Path(path) == Path(uploaded) else None
