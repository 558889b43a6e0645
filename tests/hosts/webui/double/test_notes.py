"""Settings without effect are reported: in the reply and on the page, and in the plan view."""

from __future__ import annotations

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
