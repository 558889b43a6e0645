"""The AnimateDiff accordion, built from the settings table."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import gradio as gr

from lib_animatediff.hosts.webui.catalog.models import choice
from lib_animatediff.hosts.webui.catalog.other_extensions import warning
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.settings import SETTINGS, canonical_name, pasted_values
from lib_animatediff.video import read_recipe
from motion_module import AnimateDiffError

from .advice import advice
from .fields import field, lora_picker, model_field, seconds_field
from .first_steps import build_first_steps, link_first_steps
from .plan_view import plan_html

INFOTEXT_FIELD = "AnimateDiff"
NO_VIDEOS = (
    "MP4 and WEBM cannot be written yet: the package av is missing. "
    "Restart the WebUI with a network connection to install it."
)

_DROPPED_TYPES = [".mp4", ".webm", ".avif", ".gif", ".webp", ".png"]  # no text, which can be any file of the server
PANEL_SETTINGS = [SETTINGS["enable"], *(s for s in SETTINGS.values() if s.in_panel)]


def build_panel(tab: str) -> list[Any]:
    """Build the accordion; returns the components in the order of `PANEL_SETTINGS`."""
    enable = SETTINGS["enable"]
    with a1111.input_accordion(enable.default, label=enable.label, elem_id=f"animatediff_{tab}") as accordion:
        if clash := warning():
            gr.HTML(f"<p class='animatediff-clash'>{html.escape(clash)}</p>")
        steps = build_first_steps(tab)
        if find_spec("av") is None:
            gr.HTML(f"<p class='animatediff-advice'>{NO_VIDEOS}</p>")
        with gr.Row():
            model, refresh = model_field(tab)
        advice_line = gr.HTML(elem_id=f"animatediff_{tab}_advice")
        plan = gr.HTML(elem_id=f"animatediff_{tab}_plan")
        fields = {"enable": accordion, "model": model}
        rest = [setting for setting in PANEL_SETTINGS if setting.name not in fields]
        for group in dict.fromkeys(setting.group for setting in rest):
            with gr.Accordion(group, open=False) if group else nullcontext(), gr.Row():
                for setting in rest:
                    if setting.group == group:
                        fields[setting.name] = field(setting, tab)
                    if setting.group == group and setting.name == "fps":
                        seconds = seconds_field(tab)
                    if setting.group == group and setting.name == "motion_loras":
                        lora_picker(tab, fields[setting.name])
        dropped = gr.File(
            label="Drop a clip here to use its settings",
            file_types=_DROPPED_TYPES,
            elem_id=f"animatediff_{tab}_drop",
            elem_classes=["animatediff-drop"],
        )
        text = gr.Textbox(visible=False, elem_id=f"animatediff_{tab}_dropped")
    event = {"inputs": [dropped], "outputs": [text, advice_line], "show_progress": False, "queue": False}
    dropped.upload(_dropped, **event).then(None, inputs=[text], _js=f"(text) => animatediffPaste('{tab}', text)")
    renewed = link_first_steps(steps, accordion, model, refresh)
    _link_duration(fields, seconds)
    for event in (accordion.change, model.change, renewed.then):
        event(_advice, inputs=[accordion, model], outputs=[advice_line], show_progress=False, queue=False)
    components = [fields[setting.name] for setting in PANEL_SETTINGS]
    _update_plan_on_change(tab, components, plan)
    for component in [*components, accordion.accordion]:
        # The saved defaults would fix lists and ranges that a new motion module or version changes.
        component.do_not_save_to_config = True
    return components


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
    client = {name: value for each in objects for name, value in each.items()}
    given = {name: value for name, value in given.items() if not isinstance(value, dict)}
    present = {canonical_name(name) for name in client}
    defaults = {name: value for name, value in {**given, "enable": True}.items() if name not in present}
    return {**defaults, **client}


def _link_duration(fields: dict[str, Any], seconds: Any) -> None:
    """Keep frames, frames per second and seconds consistent in the browser (`javascript/animatediff.js`)."""
    sources = [fields[name] for name in ("frames", "fps", "context_length", "reverse")]
    for component in sources:
        component.change(None, inputs=sources, outputs=[seconds], _js="animatediffSeconds", queue=False)
    for on_typed in (seconds.blur, seconds.submit):
        on_typed(None, inputs=[seconds, *sources], outputs=[fields["frames"]], _js="animatediffFrames", queue=False)


def _update_plan_on_change(tab: str, components: list[Any], plan: Any) -> None:
    """Update the plan when a value changes, in the panel or elsewhere on the page (`animatediff_plan.js`)."""
    page = gr.Textbox(visible=False, elem_id=f"animatediff_{tab}_page")
    refresh = gr.Button(
        "Update the plan", elem_id=f"animatediff_{tab}_plan_refresh", elem_classes=["animatediff-hidden"]
    )

    def planned(page: str, *values: Any) -> str:
        given = panel_values(values)
        return plan_html(given, json.loads(page or "{}")) if given.get("enable") else ""

    event = {
        "inputs": [page, *components],
        "outputs": [plan],
        "_js": f"(page, ...values) => [animatediffPage('{tab}'), ...values]",
        "show_progress": False,
        "queue": False,
    }
    refresh.click(planned, **event)
    for component in components:  # what a setting does depends on any other one
        component.change(planned, **event)


def _dropped(file: Any) -> tuple[str, str]:
    """The infotext of a clip dropped on the panel, and a message."""
    path = Path(file.name)
    try:
        text = read_recipe(path).infotext if path.suffix.lower() in _DROPPED_TYPES else ""
    except AnimateDiffError as error:
        return "", _line(str(error))
    return text, _line("" if text else "This file contains no parameters.")


def _advice(is_open: bool, model: str) -> str:
    return _line(advice(model) if is_open and model else "")


def _line(text: str) -> str:
    return f"<p class='animatediff-advice'>{html.escape(text)}</p>" if text else ""
