"""Settings without effect are reported: in the reply and on the page, and in the plan view."""

from __future__ import annotations

import pytest
from support.webui_double import double
from support.webui_double.double import CLIP

NOTES = "AnimateDiff notes"


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
    ],
)
def test_a_setting_has_a_note_unless_it_acts(webui, clip, prompt, noted):
    processed = webui.paint({**CLIP, **clip}, prompt=prompt)
    assert [note.split()[0] for note in processed.extra_generation_params.get(NOTES, [])] == noted


def test_the_plan_of_the_panel_shows_them(webui):
    plan = webui.module("ui.plan_view")
    settings = {"model": "mm", "frames": 16, "overlap": 2}
    assert "overlap has no effect, since" in plan.plan_html(settings, {})
    assert "has no effect" not in plan.plan_html({**settings, "frames": 20}, {})
