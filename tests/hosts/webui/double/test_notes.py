"""Settings without effect are reported: in the reply and on the page, in the plan view, and as a refused axis."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest
from support.webui_double import double
from support.webui_double.double import CLIP

NOTES = "AnimateDiff notes"


def notes_of(processed) -> list[str]:
    return processed.extra_generation_params.get(NOTES, [])


def test_the_reply_has_a_note_about_each_setting_without_effect(webui):
    p = webui.request({**CLIP, "overlap": 2, "noise_share": 0.2, "latent_power": 3})
    processed = double.process_images(p)
    assert [note.split()[0] for note in notes_of(processed)] == ["overlap", "noise_share", "latent_power"]
    assert all(note in processed.comments for note in notes_of(processed))
    assert not any("has no effect" in text for text in processed.infotexts)
    assert NOTES not in p.extra_generation_params


def test_a_preview_has_notes_too(webui):
    processed = double.process_images(webui.request({**CLIP, "preview": True, "reverse": True}))
    assert [note.split()[0] for note in notes_of(processed)] == ["reverse"]


def test_settings_that_act_have_no_note(webui):
    processed = double.process_images(webui.request({**CLIP, "frames": 20, "overlap": 2}))
    assert NOTES not in processed.extra_generation_params


@pytest.mark.parametrize(("prompt", "noted"), [("a fox", True), ("0: a fox\n1: a bear", False)])
def test_whether_travel_acts_is_the_prompts(webui, prompt, noted):
    p = webui.request({**CLIP, "travel_hold": 0.5})
    p.prompt = prompt
    assert bool(notes_of(double.process_images(p))) == noted


def test_the_plan_of_the_panel_shows_them(webui):
    plan = webui.module("ui.plan_view")
    settings = {"model": "mm", "frames": 16, "overlap": 2}
    assert "overlap has no effect, since" in plan.plan_html(settings, {})
    assert "has no effect" not in plan.plan_html({**settings, "frames": 20}, {})


# --------------------------------------------------------------------------------------------------------------------
# axes of the X/Y/Z plot


class AxisOption:
    def __init__(self, label, type, apply, confirm=None, choices=None):
        self.label, self.type, self.apply, self.confirm, self.choices = label, type, apply, confirm, choices


@pytest.fixture
def plot(webui):
    module = SimpleNamespace(AxisOption=AxisOption, axis_options=[])
    webui.module("scripts").scripts_data[:] = [SimpleNamespace(path="scripts/xyz_grid.py", module=module)]
    webui.module("ui.axes").register()
    axes = {axis.label.removeprefix("[AnimateDiff] "): axis for axis in module.axis_options}

    def paint(clip: dict, **values: list) -> list:
        """The cells of a plot: all axes are confirmed, then each cell is made from a copy of p."""
        p = webui.request({"model": "mm", **clip})
        chosen = [(axes[label.replace("_", " ")], given) for label, given in values.items()]
        for axis, given in chosen:
            axis.confirm(p, given)
        cell = copy.copy(p)
        for axis, given in chosen:
            axis.apply(cell, given[0], given)
        return double.process_images(cell)

    return paint


def test_an_axis_that_can_do_nothing_is_refused(plot):
    with pytest.raises(Exception, match=r"The axis Window overlap changes nothing in this plot: overlap has no effect"):
        plot({"frames": 16}, Window_overlap=[2, 4])
    assert plot({"frames": 20}, Window_overlap=[2, 4])


def test_an_axis_that_acts_in_some_cells_is_not_refused(plot):
    assert plot({"frames": 16}, Window_overlap=[2, 4], Frames=[16, 20])
    assert plot({"frames": 16}, Closed_loop=["R-P", "A"])
    with pytest.raises(Exception, match="The axis Window overlap changes nothing"):
        plot({"frames": 16}, Window_overlap=[2, 4], Frames=[8, 16])
