"""The accordion is built from the settings table, and reads pasted parameters of ours and of the existing extension."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from support.motion_files import write_motion_file
from support.webui_double import components, double

from lib_animatediff.request.settings import SETTINGS

WITHOUT_FILE = "Text2Video-Zero [no file, any checkpoint]"
OURS = "enable: True, model: folder/mm 3.ckpt, frames: 24, fps: 12.5, loop_count: 2, overlap: 5, reverse: True"
EXISTING = (
    "enable: True, model: mm_sd15_v3.safetensors, video_length: 16, fps: 8, loop_number: 0, closed_loop: R-P, "
    "batch_size: 16"
)
SHOWN = [setting for setting in SETTINGS.values() if setting.in_panel or setting.name == "enable"]
NAMES = [setting.name for setting in SHOWN]
NOTHING = dict.fromkeys(NAMES)
# A component that takes several holds a list.
DEFAULTS = {s.name: list(s.default) if isinstance(s.default, tuple) else s.default for s in SHOWN}
QUIET = {setting.name: setting.default for setting in SHOWN if setting.omit_default}  # not in a line: the default


@pytest.fixture
def panel(webui):
    return webui.module("ui.panel")


def pasted(webui, params):
    """What the fields of the txt2img tab read, by the names of their settings."""
    script = webui.our_script()
    controls = script.ui(False)
    assert [component for component, _ in script.infotext_fields] == controls
    return {name: read(params) for name, (_, read) in zip(NAMES, script.infotext_fields, strict=True)}


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
    defaults = DEFAULTS | {"model": "mm.safetensors [v3, SD 1.5]"}
    assert [component.value for component in controls] == [defaults[name] for name in NAMES]
    assert [component.info for component in controls[1:]] == [SETTINGS[name].help for name in NAMES[1:]]
    assert all(component.do_not_save_to_config for component in controls)  # not frozen in the WebUI's settings file


def test_sliders_have_the_limits_and_choices_those_of_the_table(panel):
    """Number fields have no limits: gradio's own error about them is shown nowhere."""
    for component, setting in zip(panel.build_panel("txt2img"), SHOWN, strict=True):
        if isinstance(component, components.Number):
            assert not {"minimum", "maximum"} & vars(component).keys()
        elif setting.maximum is not None:
            assert (component.minimum, component.maximum) == (setting.minimum, setting.maximum)
        if setting.choices:
            assert component.choices == list(setting.choices)
        if setting.name in ("frames", "context_length", "stride"):  # the values of a long slider are typed
            assert isinstance(component, components.Slider if setting.name == "stride" else components.Number)


def test_no_two_components_share_an_id(panel):
    """In the existing extension two of FreeInit's do, and the page takes one for the other."""
    components.Component.created.clear()
    for tab in ("txt2img", "img2img"):
        panel.build_panel(tab)
    ids = [component.elem_id for component in components.Component.created if component.elem_id]
    assert len(ids) == len(set(ids)) > 2 * len(NAMES)


def lines_of(panel):
    """What a new panel says, and the field of the motion module."""
    components.Component.created.clear()
    model = panel.build_panel("txt2img")[1]
    shown = [component for component in components.Component.created if isinstance(component, components.HTML)]
    warnings = ("animatediff-clash", "animatediff-advice")
    return [c.value for c in shown if c.value and any(name in c.value for name in warnings)], model


@pytest.mark.parametrize("enabled", [True, False])
def test_the_existing_extension_beside_us_is_named(panel, webui, tmp_path, enabled):
    """By the file whose name is our package's; its motion modules are in our list, and stay there as we promise."""
    folder = tmp_path / "sd-webui-animatediff"
    (folder / "model").mkdir(parents=True)
    (folder / "motion_module.py").touch()
    (folder / "model" / "theirs.ckpt").touch()
    webui.module("extensions").extensions.append(SimpleNamespace(path=str(folder), enabled=enabled))
    lines, model = lines_of(panel)
    assert [folder.name in line and "Extensions" in line for line in lines] == [True] * enabled
    assert any("theirs.ckpt" in choice for choice in model.choices)


@pytest.mark.parametrize(
    ("params", "values"),
    [
        (
            {"AnimateDiff": OURS},
            {**QUIET, "enable": True, "model": "folder/mm 3.ckpt", "frames": 24, "fps": 12.5, "loop_count": 2}
            | {"overlap": 5, "reverse": True},
        ),
        (
            {"AnimateDiff": EXISTING},
            {**QUIET, "enable": True, "model": "mm_sd15_v3.safetensors", "frames": 16, "fps": 8.0, "loop_count": 0}
            | {"closed_loop": "R-P", "context_length": 16},
        ),
        ({"Seed": "1"}, {"enable": False}),
    ],
    ids=["ours", "the existing extension's", "none"],
)
def test_a_pasted_line_is_read_and_without_one_we_are_switched_off_and_the_rest_is_left(webui, params, values):
    assert pasted(webui, params) == {**NOTHING, **values}


def test_the_line_of_a_clip_gives_the_clips_settings(webui):
    p = webui.request({"model": "mm", "frames": 2, "fps": 12, "loop_count": 3})
    p.scripts.call("before_process", p)
    values = {"enable": True, "model": "mm.safetensors [v3, SD 1.5]", "frames": 2, "fps": 12.0, "loop_count": 3}
    assert pasted(webui, p.extra_generation_params) == {**DEFAULTS, **values}


@pytest.mark.parametrize(
    ("kind", "is_sdxl", "words"),
    [
        ("v3", False, ""),
        ("v3", True, "is for Stable Diffusion 1.5, but the checkpoint is SDXL"),
        ("sdxl", False, "is for SDXL, but the checkpoint is Stable Diffusion 1.5"),
        ("hotshot", True, "8 frames"),
        ("lcm", False, "LCM"),
    ],
)
def test_what_the_panel_says_about_a_module(webui, checkpoint, monkeypatch, kind, is_sdxl, words):
    monkeypatch.setattr(checkpoint, "is_sdxl", is_sdxl)
    write_motion_file(webui.models_folder, kind)
    said = webui.module("ui.advice").advice(f"mm_small_{kind}")
    assert words in said
    assert bool(said) is bool(words)


def test_what_the_panel_says_about_a_file_that_is_none_and_before_a_checkpoint_is_loaded(webui):
    advice = webui.module("ui.advice").advice
    (webui.models_folder / "page.ckpt").write_text("<!DOCTYPE html>")
    assert "web page" in advice("page")
    double.shared.sd_model = None
    assert advice("mm") == ""


def test_without_the_codecs_the_panel_says_so(panel, monkeypatch):
    monkeypatch.setattr(panel, "find_spec", lambda name: None)
    assert ["package av is missing" in line for line in lines_of(panel)[0]] == [True]
