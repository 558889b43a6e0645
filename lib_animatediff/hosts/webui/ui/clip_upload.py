"""Earlier clips in the panel: places to drop one to continue or to re-render, and a button for an unfinished one."""

from __future__ import annotations

import html
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.unfinished import asking_to_resume, unfinished_clips

TYPES = [".mp4", ".webm", ".avif", ".gif", ".webp", ".png"]  # of clips
CLIPS = {  # settings with a clip, and the labels of their places
    "continue_clip": "Upload the clip to continue",
    "rerender_clip": "Upload the clip to re-render",
}
_TAKEN = "All settings are now those of the unfinished clip. Press Generate to go on with it."
_NONE = "No clip of this tab is unfinished."


def clip_upload(tab: str, setting: str, path: Any) -> None:
    """Add the place to the panel.

    Args:
        setting: its name, one of `CLIPS`.
        path: its field.
    """
    file = gr.File(
        label=CLIPS[setting],
        file_types=TYPES,
        elem_id=f"animatediff_{tab}_{setting}_upload",
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


def resume_button(tab: str) -> tuple[Any, Any]:
    """The button, which is there if a clip of the tab is unfinished, and a line below it."""
    button = gr.Button(
        "Resume unfinished clip",
        size="sm",
        visible=_newest(tab) is not None,
        elem_id=f"animatediff_{tab}_resume_unfinished",
        elem_classes=["animatediff-small"],
    )
    return button, gr.HTML(elem_id=f"animatediff_{tab}_resume_message")


def link_resume(tab: str, button: Any, line: Any, text: Any) -> None:
    """Let the button paste the clip's infotext.

    Args:
        text: the hidden text that pasted infotexts go into.
    """

    def take() -> tuple[str, str]:
        found = _newest(tab)
        message = _NONE if found is None else _TAKEN
        return found or "", f"<p class='animatediff-advice'>{html.escape(message)}</p>"

    button.click(take, inputs=[], outputs=[text, line], show_progress=False, queue=False).then(
        None, inputs=[text], _js=f"(text) => animatediffPaste('{tab}', text)"
    )


def shown(tab: str) -> Any:
    """The update that shows or hides the button."""
    return gr.update(visible=_newest(tab) is not None)


def _newest(tab: str) -> str | None:
    return next((asking_to_resume(each.header.infotext) for each in unfinished_clips() if each.header.tab == tab), None)
