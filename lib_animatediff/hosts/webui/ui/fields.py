"""The components of the panel."""

from __future__ import annotations

import base64
import html
import io
import json
from collections.abc import Callable, Iterable
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.encoders import CAMERAS, ENCODERS
from lib_animatediff.hosts.webui.catalog.encoders import choices as file_choices
from lib_animatediff.hosts.webui.catalog.loras import available_loras
from lib_animatediff.hosts.webui.catalog.models import choices, selected
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.output.files import default_formats
from lib_animatediff.request.camera.moves import MOVES, is_pose_file
from lib_animatediff.request.control.choosing import names_in
from lib_animatediff.request.masks import pack_mask, packed_mask
from lib_animatediff.request.settings import SETTINGS, Setting, by_group
from motion_module import AnimateDiffError

from .loops import CUSTOM, LOOPS

Names = Callable[[], list[str]]
Add = Callable[[str | None, str], tuple[Any, Any]]
LARGEST_SLIDER = 10  # the values of a longer slider are typed


def field(setting: Setting, tab: str) -> Any:
    """The component of a setting."""
    described = {
        "label": setting.label,
        "info": setting.help,
        "value": setting.default,
        "elem_id": f"animatediff_{tab}_{setting.name}",
    }
    if setting.type in (int, float):
        return _number_field(setting, described)
    if setting.type is bool:
        return gr.Checkbox(**described)
    if setting.type is tuple:
        value = default_formats() if setting.name == "formats" else list(setting.default)
        return gr.CheckboxGroup(choices=list(setting.choices), **{**described, "value": value})
    if setting.choices:
        return gr.Dropdown(choices=list(setting.choices), **described)
    if setting.suggestions:
        return gr.Dropdown(choices=list(setting.suggestions), allow_custom_value=True, **described)
    return _image_field(described) if setting.image else gr.Textbox(**described)


def slug(group: str) -> str:
    """A fold's heading as a part of element ids."""
    return group.lower().replace(",", "").replace(" ", "_")


def hints(settings: Iterable[Setting]) -> str:
    """What `animatediff_panel.js` reads, and the meaning of each choice behind its name in an open list.

    JSON with the settings of each fold by its heading, and the meanings of choices by setting.
    """
    listed = list(settings)
    groups = {group: [setting.name for setting in members] for group, members in by_group(listed).items() if group}
    meanings = {setting.name: dict(setting.meanings) for setting in listed if setting.meanings}
    data = html.escape(json.dumps({"groups": groups, "meanings": meanings}))
    # gradio 3 has a choice's name in data-value, gradio 4 in aria-label.
    rules = (
        f'[id^="animatediff_"][id$="_{name}"] li:is([data-value="{choice}"], [aria-label="{choice}"])::after '
        f'{{ content: ": {meaning}"; }}'
        for name, choices in meanings.items()
        for choice, meaning in choices.items()
    )
    return f"<div class='animatediff-hints' data-hints='{data}'></div><style>{' '.join(rules)}</style>"


def _number_field(setting: Setting, described: dict[str, Any]) -> Any:
    limits = {"minimum": setting.minimum, "maximum": setting.maximum}
    if setting.type is int and setting.maximum is not None and setting.maximum <= LARGEST_SLIDER:
        return gr.Slider(step=1, **limits, **described)
    if setting.type is float and setting.maximum == 1:
        return gr.Slider(step=0.01, **limits, **described)
    # Without limits: gradio would raise an error of its own, which the page shows nowhere. Ours names the range.
    return gr.Number(precision=0 if setting.type is int else None, **described)


def _image_field(described: dict[str, Any]) -> Any:
    """An image field, and its hidden text, which scripts receive and pasted parameters set."""
    text = gr.Textbox(**described, visible=False)
    image = gr.Image(
        label=described["label"],
        type="pil",
        image_mode="RGBA",
        elem_id=f"{described['elem_id']}_picture",
        elem_classes=["animatediff-mask"],
        height=140,
    )
    quietly = {"show_progress": False, "queue": False}
    image.upload(lambda given: "" if given is None else pack_mask(given), inputs=[image], outputs=[text], **quietly)
    image.clear(lambda: "", inputs=[], outputs=[text], **quietly)
    text.change(_shown_image, inputs=[text], outputs=[image], **quietly)
    return text


def _shown_image(text: str) -> Any:
    from PIL import Image

    try:
        small = packed_mask(text)  # text from an untrusted clip may be anything
    except AnimateDiffError:
        small = ""
    return gr.update(value=Image.open(io.BytesIO(base64.b64decode(small))) if small else None)


def model_field(tab: str) -> tuple[Any, Any]:
    """The list of motion modules, and its refresh button, which `first_steps` links."""
    setting = SETTINGS["model"]
    now = selected(setting.default)
    dropdown = gr.Dropdown(
        label=setting.label,
        info=setting.help,
        # Where nothing is selected, gradio 4 takes the first of a list; a page fills the list when it is loaded.
        choices=choices() if now else [],
        value=now,
        elem_id=f"animatediff_{tab}_{setting.name}",
    )
    return dropdown, a1111.refresh_button(dropdown, lambda: None, dict, f"animatediff_{tab}_refresh")


def lora_picker(tab: str, text: Any) -> None:
    """A list of motion LoRAs that adds the selected one to the text."""
    where = "Lists the folders of LoRAs and of motion modules."
    _picker(tab, "lora", text, "Add a motion LoRA", where, (_lora_names, _with_lora))


def encoder_picker(tab: str, text: Any) -> None:
    """A list of SparseCtrl encoders that adds the selected one to the text."""
    where = "Lists the folders of motion modules."
    _picker(tab, "encoder", text, "Add a SparseCtrl encoder", where, (_encoder_names, _with_encoder))


def camera_picker(tab: str, text: Any) -> None:
    """A list of CameraCtrl models, of which one is selected."""
    where = "Lists the folders of motion modules."
    _picker(tab, "camera", text, "Choose a CameraCtrl model", where, (_camera_names, _this_camera))


def move_picker(tab: str, text: Any) -> None:
    """A list of the camera's moves that adds the selected one to the text."""
    how = "The number behind it is the speed: 1 is the whole move in 16 frames."
    _picker(tab, "move", text, "Add a move", how, (lambda: list(MOVES), _with_move), is_fixed=True)


def _picker(
    tab: str, name: str, text: Any, label: str, info: str, how: tuple[Names, Add], *, is_fixed: bool = False
) -> None:
    """A list that adds the selected name to a text.

    Args:
        how: what the list has, and how a name is added.
        is_fixed: whether the list is always the same.
    """
    names, add = how

    def listed() -> dict[str, Any]:
        return {"choices": names()}

    with gr.Row(elem_classes=["animatediff-row"]):
        picker = gr.Dropdown(
            label=label,
            info=info,
            value=None,
            elem_id=f"animatediff_{tab}_{name}_picker",
            **listed(),
        )
        if not is_fixed:
            a1111.refresh_button(picker, lambda: None, listed, f"animatediff_{tab}_{name}_refresh")
    picker.do_not_save_to_config = True
    chosen = picker.change(add, inputs=[picker, text], outputs=[text, picker], show_progress=False, queue=False)
    chosen.then(None, _js="() => document.activeElement.blur()")  # closes the list


def _lora_names() -> list[str]:
    try:
        return list(available_loras())
    except (AnimateDiffError, OSError):
        return []


def _encoder_names() -> list[str]:
    try:
        return file_choices(ENCODERS)
    except (AnimateDiffError, OSError):
        return []


def _camera_names() -> list[str]:
    try:
        return file_choices(CAMERAS)
    except (AnimateDiffError, OSError):
        return []


def _with_lora(name: str | None, text: str) -> tuple[Any, Any]:
    """The text with a LoRA, unless it is in it, and the list without a choice."""
    if not name:
        return gr.update(), gr.update()
    present = {part.strip().rpartition(":")[0] or part.strip() for part in text.split(",")}
    added = text if name in present else ", ".join(filter(None, [text.strip().rstrip(","), f"{name}:1"]))
    return added, gr.update(value=None)


def _with_encoder(name: str | None, text: str) -> tuple[Any, Any]:
    """The text with an encoder, unless it is in it, and the list without a choice."""
    if not name:
        return gr.update(), gr.update()
    bare = name.rpartition(" [")[0] or name
    return ", ".join(dict.fromkeys([*names_in(text), bare])), gr.update(value=None)


def _this_camera(name: str | None, _text: str) -> tuple[Any, Any]:
    """The selected model, and the list without a choice."""
    return (name.rpartition(" [")[0] or name, gr.update(value=None)) if name else (gr.update(), gr.update())


def _with_move(name: str | None, text: str) -> tuple[Any, Any]:
    """The text with a move, and the list without a choice. A file of poses is replaced."""
    if not name:
        return gr.update(), gr.update()
    former = "" if is_pose_file(text) else text.strip().rstrip(",;")
    return ", ".join(filter(None, [former, f"{name} 0.5"])), gr.update(value=None)


def seconds_field(tab: str) -> Any:
    """The duration of the clip, from which the number of frames follows."""
    seconds = gr.Number(
        label="Seconds",
        info="Duration of the clip. Changes the number of frames.",
        value=2.0,
        elem_id=f"animatediff_{tab}_seconds",
    )
    seconds.do_not_save_to_config = True
    return seconds


def loop_field(tab: str) -> Any:
    """How the clip repeats: stands for closed loop and reverse, see `loops`."""
    loop = gr.Dropdown(
        label="Loop",
        info="How the end of the clip leads to its start. Seamless: it moves on without a jump. Back and forth: it "
        "also plays backward.",
        choices=[*LOOPS, CUSTOM],
        value=next(iter(LOOPS)),
        elem_id=f"animatediff_{tab}_loop",
    )
    loop.do_not_save_to_config = True
    return loop


def prompt_helper(tab: str) -> None:
    """How prompts over time are written, and a button that begins one."""
    gr.HTML(
        "<p class='animatediff-plan'>Begin a line of the prompt with the number of a frame, from 0: "
        "<code>8: autumn leaves</code>. In between, one prompt turns into the next.</p>"
    )
    button = gr.Button(
        "Add a prompt at half time",
        size="sm",
        elem_id=f"animatediff_{tab}_add_prompt",
        elem_classes=["animatediff-small"],
    )
    button.click(None, _js=f"() => animatediffAddPrompt('{tab}')")
