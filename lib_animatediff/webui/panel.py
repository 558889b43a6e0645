"""The AnimateDiff accordion, built from the settings table."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr
from modules.ui_common import create_refresh_button
from modules.ui_components import InputAccordion

from lib_animatediff.settings import SETTINGS, Setting, canonical_name, from_infotext

from .models import available_models, models_folder

INFOTEXT_FIELD = "AnimateDiff"

PANEL_SETTINGS = [SETTINGS["enable"], *(s for s in SETTINGS.values() if s.in_panel)]


def build_panel(tab: str) -> list[Any]:
    """Lay out the accordion; the components come in the order of `PANEL_SETTINGS`."""
    enable = SETTINGS["enable"]
    with InputAccordion(enable.default, label=enable.label, elem_id=f"animatediff_{tab}") as accordion:
        if not available_models():
            gr.HTML(
                f"<p class='animatediff-no-module'>No motion module was found. Put one (such as v3_sd15_mm.ckpt) into "
                f"<code>{models_folder()}</code> and press the refresh button.</p>"
            )
        with gr.Row():
            model = _model_dropdown(tab)
        with gr.Row():
            rest = [_component(setting, tab) for setting in PANEL_SETTINGS if setting.name not in ("enable", "model")]
    components = [accordion, model, *rest]
    for component in components:
        # The saved file would freeze lists and ranges that a new motion module or version changes.
        component.do_not_save_to_config = True
    return components


def infotext_fields(components: list[Any]) -> list[tuple[Any, Callable[[dict[str, str]], Any]]]:
    """How each component reads its value from a pasted picture's parameters."""

    def reader(name: str) -> Callable[[dict[str, str]], Any]:
        return lambda params: from_infotext(params.get(INFOTEXT_FIELD, "")).get(name)

    fields = [(c, reader(s.name)) for c, s in zip(components, PANEL_SETTINGS, strict=True)]
    return [(components[0], lambda params: INFOTEXT_FIELD in params), *fields[1:]]


def panel_values(values: tuple[Any, ...]) -> dict[str, Any]:
    """Settings by name from what the WebUI hands to a script: component values, or a client's dictionary first.

    A client that sends a dictionary wants a clip; ``enable: false`` in it says otherwise.
    """
    given = dict(zip((s.name for s in PANEL_SETTINGS), values, strict=False))
    client = given.get("enable")
    if not isinstance(client, dict):
        return given
    said = {canonical_name(name) for name in client}
    defaults = {name: value for name, value in {**given, "enable": True}.items() if name not in said}
    return {**defaults, **client}


def _model_dropdown(tab: str) -> Any:
    setting = SETTINGS["model"]

    def listed() -> dict[str, Any]:
        return {"choices": list(available_models())}

    choices = listed()["choices"]
    dropdown = gr.Dropdown(
        label=setting.label,
        info=setting.help,
        choices=choices,
        value=choices[0] if choices else setting.default,
        elem_id=f"animatediff_{tab}_{setting.name}",
    )
    create_refresh_button(dropdown, lambda: None, listed, f"animatediff_{tab}_refresh")
    return dropdown


def _component(setting: Setting, tab: str) -> Any:
    described = {
        "label": setting.label,
        "info": setting.help,
        "value": setting.default,
        "minimum": setting.minimum,
        "maximum": setting.maximum,
        "elem_id": f"animatediff_{tab}_{setting.name}",
    }
    return gr.Slider(step=1, **described) if setting.type is int else gr.Number(**described)
