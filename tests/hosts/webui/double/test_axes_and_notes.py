"""Every setting of the table is an axis of the X/Y/Z plot; what has no effect is told, and refused as an axis."""

from __future__ import annotations

import copy
from collections import namedtuple
from types import SimpleNamespace

import pytest
from support.webui_double import double
from support.webui_double.double import CLIP, shared

from lib_animatediff.request.settings import SETTINGS

NOTES = "AnimateDiff notes"
AxisOption = namedtuple("AxisOption", "label type apply confirm choices", defaults=(None, None))


@pytest.fixture
def plot(webui):
    """The plot's module, as the WebUI has loaded it, with our axes."""
    module = SimpleNamespace(AxisOption=AxisOption, axis_options=[])
    webui.module("scripts").scripts_data[:] = [SimpleNamespace(path="scripts/xyz_grid.py", module=module)]
    webui.module("ui.axes").register()
    return {axis.label.removeprefix("[AnimateDiff] "): axis for axis in module.axis_options}


def paint_cell(webui, plot, axes, *clip):
    """The first picture of a grid: all axes are confirmed, then the plot works on a copy of p."""
    p = webui.request(*clip)
    for label, values in axes.items():
        plot[label].confirm(p, values)
    cell = copy.copy(p)
    for label, values in axes.items():
        plot[label].apply(cell, values[0], values)
    return double.process_images(cell)


def test_every_setting_is_an_axis(plot):
    assert list(plot) == [setting.label for setting in SETTINGS.values()]


@pytest.mark.parametrize(
    ("axes", "clip", "rows"),
    [
        ({"Frames": [2]}, (CLIP,), 2),
        ({"Frames": [3]}, (CLIP,), 3),
        ({"Frames": [2]}, (False, "mm"), 2),  # an axis wants a clip unless it says otherwise
        ({"AnimateDiff": ["False"]}, (CLIP,), 1),
        ({"Frames": [3]}, ({"model": "mm", "video_length": 2},), 3),  # before the setting by another name
    ],
)
def test_an_axis_reaches_the_clip_and_the_next_picture_knows_nothing_of_it(webui, plot, axes, clip, rows):
    paint_cell(webui, plot, axes, *clip)
    webui.paint(CLIP)
    assert [sampling.rows for sampling in shared.samplings] == [rows, CLIP["frames"]]


def test_values_that_cannot_be_are_refused_before_anything_is_painted(plot):
    with pytest.raises(Exception, match="frames must be between 0 and 10000"):
        plot["Frames"].confirm(None, [8, -1])
    with pytest.raises(Exception, match="fusion must be one of"):
        plot["Window fusion"].confirm(None, ["flat", "round"])
    plot["Reverse (ping-pong)"].confirm(None, ["True", "False"])


def test_choices_are_those_of_the_table(webui, plot):
    assert plot["Window fusion"].choices() == list(SETTINGS["fusion"].choices)
    assert plot["Reverse (ping-pong)"].choices() == ["True", "False"]
    assert [name.split()[0] for name in plot["Motion module"].choices()] == ["mm.safetensors", "Text2Video-Zero"]
    assert plot["Frames"].choices is None


@pytest.mark.parametrize("others", [{}, {"Frames": [8, 16]}])
def test_an_axis_that_can_do_nothing_is_refused(webui, plot, others):
    with pytest.raises(Exception, match=r"The axis Window overlap changes nothing in this plot: overlap has no effect"):
        paint_cell(webui, plot, {"Window overlap": [2, 4], **others}, {"model": "mm", "frames": 16})


@pytest.mark.parametrize(
    ("frames", "axes"),
    [
        (20, {"Window overlap": [2, 4]}),
        (16, {"Window overlap": [2, 4], "Frames": [16, 20]}),
        (16, {"Closed loop": ["R-P", "A"]}),
    ],
)
def test_an_axis_that_acts_in_some_cells_is_not_refused(webui, plot, frames, axes):
    assert paint_cell(webui, plot, axes, {"model": "mm", "frames": frames})


def test_the_reply_has_a_note_about_each_setting_without_effect(webui):
    p = webui.request({**CLIP, "overlap": 2, "noise_share": 0.2, "latent_power": 3})
    processed = double.process_images(p)
    notes = processed.extra_generation_params[NOTES]
    assert [note.split()[0] for note in notes] == ["overlap", "noise_share", "latent_power"]
    assert all(note in processed.comments for note in notes)
    assert not any("has no effect" in text for text in processed.infotexts)
    assert NOTES not in p.extra_generation_params


@pytest.mark.parametrize(
    ("clip", "prompt", "noted"),
    [
        ({"preview": True, "reverse": True}, "a fox", ["reverse"]),
        ({"frames": 20, "overlap": 2}, "a fox", []),
        ({"travel_hold": 0.5}, "a fox", ["travel_hold"]),
        ({"travel_hold": 0.5}, "0: a fox\n1: a bear", []),
        ({"upscale": 1.5}, "a fox", ["upscale"]),
    ],
)
def test_a_setting_has_a_note_unless_it_acts(webui, clip, prompt, noted):
    processed = webui.paint({**CLIP, **clip}, prompt=prompt)
    assert [note.split()[0] for note in processed.extra_generation_params.get(NOTES, [])] == noted


def test_the_plan_of_the_panel_shows_them(webui):
    plan = webui.module("ui.plan_view")
    settings = {"enable": True, "model": "mm", "frames": 16, "overlap": 2}
    shown = [plan.view_plan({**settings, "frames": frames}, {}).summary.partition("<div")[0] for frames in (16, 20)]
    assert "overlap has no effect, since" in shown[0]
    assert "has no effect" not in shown[1]
