"""Every setting of the table is an axis of the X/Y/Z plot, an axis reaches the clip, and one that cannot is refused."""

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
