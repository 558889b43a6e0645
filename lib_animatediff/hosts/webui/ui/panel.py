"""The AnimateDiff accordion, built from the settings table."""

from __future__ import annotations

import dataclasses
import html
import json
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.models import choice
from lib_animatediff.hosts.webui.catalog.other_extensions import warning
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.compat import with_whole_ramp
from lib_animatediff.request.settings import SETTINGS, Setting, by_group, canonical_name, pasted_values
from lib_animatediff.request.settings.setting import CAMERA, CONTROLNET, PROMPTS, WINDOWS
from lib_animatediff.video import read_recipe
from motion_module import AnimateDiffError

from .advice import advice
from .clip_upload import CLIPS, clip_upload, link_resume, resume_button, shown
from .clip_upload import TYPES as _DROPPED_TYPES  # no text, which can be any file of the server
from .fields import (
    camera_picker,
    encoder_picker,
    field,
    hints,
    loop_field,
    lora_picker,
    model_field,
    move_picker,
    prompt_helper,
    seconds_field,
    slug,
)
from .first_steps import build_first_steps, link_first_steps
from .guides.gallery import OFFERED as GALLERIES
from .guides.gallery import frame_gallery
from .image_upload import OFFERED as IMAGES
from .image_upload import image_upload
from .loops import CUSTOM, LOOPS
from .plan_view import PlanView, view_plan
from .sampling_offer import build_sampling_offer
from .video_field import video_upload

INFOTEXT_FIELD = "AnimateDiff"
NO_VIDEOS = (
    "MP4 and WEBM cannot be written yet: the package av is missing. "
    "Restart the WebUI with a network connection to install it."
)

TAKEN = "Prompt, size, seed and all other settings are now those of the clip. Press Generate to make it again."
_FIRST = ("enable", "model", "frames", "fps")  # fields of the first view with a place of their own
PANEL_SETTINGS = [SETTINGS["enable"], *(s for s in SETTINGS.values() if s.in_panel)]


def build_panel(tab: str) -> list[Any]:
    """Build the accordion; returns the components in the order of `PANEL_SETTINGS`."""
    enable = SETTINGS["enable"]
    groups = by_group(setting for setting in PANEL_SETTINGS if setting.name not in _FIRST)
    with a1111.input_accordion(enable.default, label=enable.label, elem_id=f"animatediff_{tab}") as accordion:
        _warnings()
        steps = build_first_steps(tab)
        resume, resume_line = resume_button(tab)
        with gr.Row(elem_classes=["animatediff-row"]):
            model, refresh = model_field(tab)
        fields = {"enable": accordion, "model": model}
        advice_line = gr.HTML(elem_id=f"animatediff_{tab}_advice")
        with gr.Row(elem_classes=["animatediff-row"]):
            for setting in (SETTINGS["frames"], SETTINGS["fps"]):
                fields[setting.name] = field(setting, tab)
            seconds = seconds_field(tab)
            loop = loop_field(tab)
        with gr.Row(elem_classes=["animatediff-row"]):
            fields |= {setting.name: field(setting, tab) for setting in groups.pop("", [])}
        plan = {"summary": gr.HTML(elem_id=f"animatediff_{tab}_plan")}
        with gr.Column(elem_classes=["animatediff-folds"]):
            for group, members in groups.items():
                with gr.Accordion(group, open=False, elem_classes=["animatediff-fold"]):
                    fields |= _fold(tab, group, members, fields)
                    plan |= _part_of_plan(tab, group)
            with gr.Accordion("Settings of a clip", open=False, elem_classes=["animatediff-fold"]):
                dropped = _drop_field(tab)
        gr.HTML(hints(PANEL_SETTINGS), elem_classes=["animatediff-hidden"])
    read = {"inputs": [dropped[0]], "outputs": dropped[1:], "show_progress": False, "queue": False}
    dropped[0].upload(_dropped, **read).then(
        None, inputs=[dropped[1]], _js=f"(text) => animatediffPaste('{tab}', text)"
    )
    link_resume(tab, resume, resume_line, dropped[1])
    _link_duration(fields, seconds)
    _link_loop(fields, loop)
    renewed = link_first_steps(steps, accordion, model, refresh)
    for event in (accordion.change, model.change, renewed.then):
        event(_advice, inputs=[accordion, model], outputs=[advice_line], show_progress=False, queue=False)
    components = [fields[setting.name] for setting in PANEL_SETTINGS]
    _update_plan_on_change(tab, components, [*(plan[part.name] for part in dataclasses.fields(PlanView)), resume])
    for component in components:
        _keep_out_of_config(component)
    _keep_out_of_config(accordion.accordion)
    return components


def _keep_out_of_config(component: Any) -> None:
    """Saved defaults would fix lists and ranges that a new motion module or version changes, also of its children."""
    component.do_not_save_to_config = True
    for child in getattr(component, "children", ()):
        _keep_out_of_config(child)


def _warnings() -> None:
    """Lines about what is wrong with this installation."""
    if clash := warning():
        gr.HTML(f"<p class='animatediff-clash'>{html.escape(clash)}</p>")
    if find_spec("av") is None:
        gr.HTML(f"<p class='animatediff-advice'>{NO_VIDEOS}</p>")


def _fold(tab: str, group: str, members: Sequence[Setting], above: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a fold by name, with a button that resets them; ``above`` are those of the first view."""
    fields = {}
    if group == PROMPTS:
        prompt_helper(tab)
    with gr.Row(elem_classes=["animatediff-fields"]):
        for setting in members:
            fields[setting.name] = field(setting, tab)
            if setting.name == "motion_loras":
                lora_picker(tab, fields[setting.name])
            if setting.name == "video":
                video_upload(tab, fields["video"], above["frames"], above["fps"])
            if setting.name in CLIPS:
                clip_upload(tab, setting.name, fields[setting.name])
            if setting.name in IMAGES:
                image_upload(tab, setting, fields[setting.name])
            if setting.name in GALLERIES:
                frame_gallery(tab, setting, fields[setting.name])
            if setting.name == "sparse_ctrl":
                encoder_picker(tab, fields[setting.name])
            if setting.name == "camera":
                move_picker(tab, fields[setting.name])
            if setting.name == "camera_model":
                camera_picker(tab, fields[setting.name])
    reset = gr.Button(
        "Reset",
        size="sm",
        elem_id=f"animatediff_{tab}_reset_{slug(group)}",
        elem_classes=["animatediff-reset", "animatediff-small"],
    )
    defaults = [list(s.default) if isinstance(s.default, tuple) else s.default for s in members]
    # Python answers, not the browser alone, so that every component follows, an image and its hidden text too.
    reset.click(
        lambda: defaults if len(defaults) > 1 else defaults[0],
        inputs=[],
        outputs=list(fields.values()),
        show_progress=False,
        queue=False,
    )
    return fields


def _part_of_plan(tab: str, group: str) -> dict[str, Any]:
    """The part of the plan that a fold shows, by its name in `PlanView`."""
    name = {WINDOWS: "windows", PROMPTS: "prompts", CONTROLNET: "controls", CAMERA: "camera"}.get(group)
    return {name: gr.HTML(elem_id=f"animatediff_{tab}_plan_{name}")} if name else {}


def _drop_field(tab: str) -> list[Any]:
    """A place to drop a clip whose settings are wanted, the hidden text that its infotext goes into, and a message."""
    file = gr.File(
        label="Drop a clip here to use its settings",
        file_types=_DROPPED_TYPES,
        elem_id=f"animatediff_{tab}_drop",
        elem_classes=["animatediff-drop"],
    )
    text = gr.Textbox(visible=False, elem_id=f"animatediff_{tab}_dropped")
    return [file, text, gr.HTML(elem_id=f"animatediff_{tab}_dropped_message")]


def build_note(tab: str, error: Exception) -> list[Any]:
    """What stands in for the panel that failed: the reason, and a component that receives an API client's settings."""
    reason = html.escape(f"AnimateDiff has no panel here, because of an error: {error} The console has more.")
    gr.HTML(f"<p class='animatediff-clash'>{reason}</p>")
    return [gr.Checkbox(value=False, visible=False, elem_id=f"animatediff_{tab}_enable")]


def infotext_fields(components: list[Any]) -> list[tuple[Any, Callable[[dict[str, str]], Any]]]:
    """The function of each component that reads its value from the parameters of a pasted image."""

    def reader(name: str) -> Callable[[dict[str, str]], Any]:
        return lambda params: pasted_values(params.get(INFOTEXT_FIELD, "")).get(name)

    def model(params: dict[str, str]) -> Any:
        name = reader("model")(params)
        return name and choice(name)

    readers = {"model": model}
    readings = [(c, readers.get(s.name, reader(s.name))) for c, s in zip(components, PANEL_SETTINGS, strict=True)]
    return [(components[0], lambda params: INFOTEXT_FIELD in params), *readings[1:]]


def panel_values(values: tuple[Any, ...]) -> dict[str, Any]:
    """Settings by name from the script's arguments: the components' values, or a client's dictionary first.

    A client's dictionary requests a clip unless it contains ``enable: false``. Several dictionaries, such as one for
    each setting, count as one.
    """
    given = dict(zip((s.name for s in PANEL_SETTINGS), values, strict=False))
    objects = [value for value in values if isinstance(value, dict)]
    if not objects:
        return given
    client = with_whole_ramp({name: value for each in objects for name, value in each.items()})
    given = {name: value for name, value in given.items() if not isinstance(value, dict)}
    present = {canonical_name(name) for name in client}
    defaults = {name: value for name, value in {**given, "enable": True}.items() if name not in present}
    return {**defaults, **client}


def given_settings(values: tuple[Any, ...]) -> set[str]:
    """The settings that the script's arguments give: all from the page, a client's own otherwise."""
    objects = [value for value in values if isinstance(value, dict)]
    if not objects:
        return {setting.name for setting in PANEL_SETTINGS}
    return {canonical_name(name) or name for each in objects for name, value in each.items() if value is not None}


def _link_duration(fields: dict[str, Any], seconds: Any) -> None:
    """Keep frames, frames per second and seconds consistent in the browser (`javascript/animatediff.js`)."""
    sources = [fields[name] for name in ("frames", "fps", "context_length", "reverse")]
    for component in sources:
        component.change(None, inputs=sources, outputs=[seconds], _js="animatediffSeconds", queue=False)
    typed = {"inputs": [seconds, *sources], "queue": False}
    # While it is typed, so that Ctrl+Enter makes the clip that is shown.
    seconds.input(None, outputs=[fields["frames"]], _js="animatediffFrames", **typed)
    for event in ("blur", "submit"):
        left = getattr(seconds, event, seconds.submit)  # gradio 4 has no blur event of numbers
        left(None, outputs=[fields["frames"], seconds], _js="animatediffFramesAndSeconds", **typed)


def _link_loop(fields: dict[str, Any], loop: Any) -> None:
    """Keep the loop and the two settings that it stands for consistent in the browser."""
    settings = [fields[name] for name in ("closed_loop", "reverse")]
    loops = json.dumps(LOOPS)
    chosen = f"(...values) => animatediffLoopSettings({loops}, ...values)"
    loop.input(None, inputs=[loop, *settings], outputs=settings, _js=chosen, queue=False)
    followed = f"(...values) => animatediffLoop({loops}, ...values) ?? {json.dumps(CUSTOM)}"
    for component in settings:
        component.change(None, inputs=settings, outputs=[loop], _js=followed, queue=False)


def _update_plan_on_change(tab: str, components: list[Any], parts: list[Any]) -> None:
    """Update the plan when a value changes, in the panel or elsewhere on the page (`animatediff_plan.js`)."""
    page = gr.Textbox(visible=False, elem_id=f"animatediff_{tab}_page")
    refresh = gr.Button(
        "Update the plan", elem_id=f"animatediff_{tab}_plan_refresh", elem_classes=["animatediff-hidden"]
    )
    build_sampling_offer(tab, page, components[[setting.name for setting in PANEL_SETTINGS].index("model")])
    refresh.click(
        lambda page, *values: (
            *dataclasses.astuple(view_plan(panel_values(values), json.loads(page or "{}"))),
            shown(tab),
        ),
        inputs=[page, *components],
        outputs=parts,
        _js=f"(page, ...values) => [animatediffPage('{tab}'), ...values]",
        show_progress=False,
        queue=False,
    )
    for component in components:  # what a setting does depends on any other one
        component.change(None, _js=f"() => animatediffPlan('{tab}')", queue=False)


def _dropped(file: Any) -> tuple[str, str]:
    """The infotext of a clip dropped on the panel, and a message."""
    path = Path(file.name)
    try:
        text = read_recipe(path).infotext if path.suffix.lower() in _DROPPED_TYPES else ""
    except AnimateDiffError as error:
        return "", _line(str(error))
    return text, f"<p>{TAKEN}</p>" if text else _line("This file contains no parameters.")


def _advice(is_open: bool, model: str) -> str:
    return _line(advice(model) if is_open and model else "")


def _line(text: str) -> str:
    return f"<p class='animatediff-advice'>{html.escape(text)}</p>" if text else ""
