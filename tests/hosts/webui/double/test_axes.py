"""Every setting of the table is an axis of the X/Y/Z plot, and an axis reaches the clip."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
from support.webui_double import double
from support.webui_double.double import CLIP, shared

from lib_animatediff.request.settings import SETTINGS


class AxisOption:
    def __init__(self, label, type, apply, confirm=None, choices=None):
        self.label, self.type, self.apply, self.confirm, self.choices = label, type, apply, confirm, choices


@pytest.fixture
def plot(webui):
    """The plot's module, as the WebUI has loaded it, with our axes."""
    module = SimpleNamespace(AxisOption=AxisOption, axis_options=[])
    data = SimpleNamespace(path="scripts/xyz_grid.py", module=module)
    webui.module("scripts").scripts_data[:] = [data]
    webui.module("ui.axes").register()
    return {axis.label.removeprefix("[AnimateDiff] "): axis for axis in module.axis_options}


def cell(webui, axis, value, *clip):
    """One picture of the grid: the plot works on a copy of p."""
    p = copy.copy(webui.request(*clip))
    axis.apply(p, value, [value])
    double.process_images(p)
    return p


def test_every_setting_is_an_axis(plot):
    assert list(plot) == [setting.label for setting in SETTINGS.values()]


def test_an_axis_reaches_the_clip(webui, plot):
    for frames in (2, 3):
        cell(webui, plot["Frames"], frames, CLIP)
    assert [sampling.rows for sampling in shared.samplings] == [2, 3]


def test_an_axis_wants_a_clip_unless_it_says_otherwise(webui, plot):
    cell(webui, plot["Frames"], 2, False, "mm")
    assert shared.samplings[-1].rows == 2
    cell(webui, plot["AnimateDiff"], "False", CLIP)
    assert shared.samplings[-1].rows == 1


def test_an_axis_goes_before_the_same_setting_by_another_name(webui, plot):
    cell(webui, plot["Frames"], 3, {"model": "mm", "video_length": 2})
    assert shared.samplings[-1].rows == 3


def test_the_next_picture_knows_nothing_of_it(webui, plot):
    cell(webui, plot["Frames"], 3, CLIP)
    webui.paint(CLIP)
    assert shared.samplings[-1].rows == 2


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
