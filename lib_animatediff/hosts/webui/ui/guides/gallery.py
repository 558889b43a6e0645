"""A gallery of images at frames in the panel: shows them with their frames, adds what is dropped, and removes one."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.sources import find_source
from lib_animatediff.hosts.webui.catalog.uploads import kept_image
from lib_animatediff.request.settings import Setting
from lib_animatediff.request.start.pins import Pin, parse_keys
from lib_animatediff.video.fitting import CROP
from lib_animatediff.video.source import chosen_images
from motion_module import AnimateDiffError, ClipError

OFFERED = ("key_images", "scribbles")
_SIDE = 160  # pixels of an image that is shown
_FRAME = "frame {}"


def frame_gallery(tab: str, setting: Setting, text: Any) -> None:
    """Add the gallery to the panel.

    Args:
        setting: one of `OFFERED`.
        text: its field.
    """
    place = f"animatediff_{tab}_{setting.name}"
    with gr.Row(elem_classes=["animatediff-row"]):
        image = gr.Image(
            label=f"Upload: {setting.label}", type="pil", image_mode="RGBA", elem_id=f"{place}_upload", height=140
        )
        gallery = gr.Gallery(label=setting.label, columns=4, height=140, elem_id=f"{place}_gallery")
        frame = gr.Number(
            label="At frame",
            info="Frame of the image that is dropped or removed; -1 is the last one.",
            value=0,
            precision=0,
            elem_id=f"{place}_frame",
        )
        remove = gr.Button("Remove the image at this frame", size="sm", elem_id=f"{place}_remove")
    for component in (image, gallery, frame):
        component.do_not_save_to_config = True
    quietly = {"show_progress": False, "queue": False}
    image.upload(_with_image, inputs=[image, frame, text], outputs=[text, image], **quietly)
    remove.click(_without, inputs=[frame, text], outputs=[text], **quietly)
    text.change(_shown, inputs=[text], outputs=[gallery], **quietly)
    gallery.select(_selected, inputs=[text], outputs=[frame], **quietly)


def _with_image(image: Any, frame: Any, text: str) -> tuple[Any, Any]:
    """The text with a dropped image, and no image. The page shows why one cannot be stored."""
    if image is None:
        return gr.update(), gr.update()
    try:
        path = kept_image(image)
    except AnimateDiffError as error:
        raise gr.Error(str(error)) from error
    number = int(frame or 0)
    return _joined({**_entries(text), number: path}), None


def _without(frame: Any, text: str) -> str:
    entries = _entries(text)
    entries.pop(int(frame or 0), None)
    return _joined(entries)


def _entries(text: str) -> dict[int, str]:
    """Paths by frames; nothing of a text that is malformed, which Generate refuses."""
    with suppress(ClipError):
        return dict(parse_keys(text))
    return {}


def _joined(entries: dict[int, str]) -> str:
    ordered = sorted(entries, key=lambda frame: (frame < 0, frame))  # those from the end are last
    return ", ".join(f"{frame}: {entries[frame]}" for frame in ordered)


# gradio evaluates the annotations of what it calls, so that they name nothing that is not imported here.


def _listed(text: str) -> list[tuple[Any, int]]:
    """The images that can be shown, with their frames."""
    found = []
    for frame, path in _entries(text).items():
        with suppress(AnimateDiffError, OSError):
            image = next(chosen_images(Pin(0, find_source(path)[0]).source(CROP)))
            image.thumbnail((_SIDE, _SIDE))
            found.append((image, frame))
    return found


def _shown(text: str) -> list[tuple[Any, str]]:
    return [(image, _FRAME.format(frame)) for image, frame in _listed(text)]


def _selected(text: str, chosen: gr.SelectData) -> Any:
    """The frame of the image that is clicked."""
    frames = [frame for _, frame in _listed(text)]
    return frames[chosen.index] if chosen.index < len(frames) else gr.update()
