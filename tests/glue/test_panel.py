"""The accordion is built from the settings table, and reads pasted parameters of ours and of the existing extension."""

from __future__ import annotations

import pytest
from glue import components

from lib_animatediff.settings import SETTINGS

EXISTING = (
    "enable: True, model: mm_sd15_v3.safetensors, video_length: 16, fps: 8, loop_number: 0, closed_loop: R-P, "
    "batch_size: 16"
)
NAMES = ["enable", "model", "frames", "fps", "loop_count"]


@pytest.fixture
def panel(webui):
    return webui.module("panel")


def pasted(webui, params):
    """What the fields of the txt2img tab read, by the names of their settings."""
    script = webui.our_script()
    controls = script.ui(False)
    assert [component for component, _ in script.infotext_fields] == controls
    return {name: read(params) for name, (_, read) in zip(NAMES, script.infotext_fields, strict=True)}


def test_the_title_is_the_name_that_clients_send(webui):
    assert webui.our_script().title() == "AnimateDiff"


@pytest.mark.parametrize("tab", ["txt2img", "img2img"])
def test_the_components_stand_in_the_order_of_the_settings(panel, tab):
    components = panel.build_panel(tab)
    assert [setting.name for setting in panel.PANEL_SETTINGS] == NAMES
    assert [component.label for component in components] == [SETTINGS[name].label for name in NAMES]
    assert [component.elem_id for component in components] == [
        f"animatediff_{tab}-checkbox",
        *(f"animatediff_{tab}_{name}" for name in NAMES[1:]),
    ]


def test_every_component_has_a_default_and_says_what_it_changes(panel):
    """The API's infotext field passes over components whose value is None."""
    controls = panel.build_panel("txt2img")
    assert [component.value for component in controls] == [False, "mm.safetensors", 16, 8.0, 0]
    assert [component.info for component in controls[1:]] == [SETTINGS[name].help for name in NAMES[1:]]


def test_numbers_keep_the_limits_of_the_table(panel):
    for component, name in zip(panel.build_panel("txt2img")[2:], NAMES[2:], strict=True):
        assert (component.minimum, component.maximum) == (SETTINGS[name].minimum, SETTINGS[name].maximum)


def test_no_value_is_frozen_in_the_webuis_settings_file(panel):
    assert all(component.do_not_save_to_config for component in panel.build_panel("txt2img"))


def test_without_a_module_the_panel_says_where_to_put_one(panel, webui):
    (webui.models_folder / "mm.safetensors").unlink()
    components.Component.created.clear()
    model = panel.build_panel("txt2img")[1]
    (told,) = [component.value for component in components.Component.created if isinstance(component, components.HTML)]
    assert str(webui.models_folder) in told
    assert (model.choices, model.value) == ([], "")


def test_with_a_module_the_panel_says_nothing(panel):
    components.Component.created.clear()
    panel.build_panel("txt2img")
    assert not [component for component in components.Component.created if isinstance(component, components.HTML)]


def test_the_refresh_button_lists_a_new_file(panel, webui):
    model = panel.build_panel("txt2img")[1]
    (webui.models_folder / "another.ckpt").touch()
    (button,) = [c for c in components.Component.created if c.elem_id == "animatediff_txt2img_refresh"][-1:]
    answer = button.press()
    assert answer["choices"] == model.choices == ["another.ckpt", "mm.safetensors"]


def test_our_own_line_is_read(webui):
    line = "enable: True, model: folder/mm 3.ckpt, frames: 24, fps: 12.5, loop_count: 2, context_length: 0, mm_hash: 1a"
    values = [True, "folder/mm 3.ckpt", 24, 12.5, 2]
    assert pasted(webui, {"AnimateDiff": line}) == dict(zip(NAMES, values, strict=True))


def test_the_existing_extensions_line_is_read(webui):
    values = [True, "mm_sd15_v3.safetensors", 16, 8.0, 0]
    assert pasted(webui, {"AnimateDiff": EXISTING}) == dict(zip(NAMES, values, strict=True))


def test_a_picture_without_our_line_switches_off_and_leaves_the_rest(webui):
    assert pasted(webui, {"Seed": "1"}) == {**dict.fromkeys(NAMES), "enable": False}


def test_the_line_of_a_clip_gives_the_clips_settings(webui):
    p = webui.request({"model": "mm", "frames": 2, "fps": 12, "loop_count": 3})
    p.scripts.call("before_process", p)
    values = [True, "mm.safetensors", 2, 12.0, 3]
    assert pasted(webui, p.extra_generation_params) == dict(zip(NAMES, values, strict=True))
