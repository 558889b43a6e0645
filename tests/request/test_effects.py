"""Which settings have no effect under which others: said for every setting, and true of the clips."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image
from support.plans import plan_of
from support.pocket_clips import clip_of, new_motion, new_pipeline

from lib_animatediff.request.effects import EFFECTS, foreign_notes, idle_settings, notes_of
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import SETTINGS, parse_settings

ZERO = "Text2Video-Zero"
LONG = {"frames": 48}
ALWAYS = {"enable", "model", "frames", "motion_loras", "preview"}  # no other setting takes their effect away


def mask() -> str:
    written = io.BytesIO()
    Image.new("L", (8, 8), 128).save(written, "PNG")
    return base64.b64encode(written.getvalue()).decode("ascii")


def noted(settings: dict[str, object], travels: bool | None = False) -> dict[str, str]:
    return {note.setting: note.text for note in notes_of(parse_settings(settings), travels)}


# Settings, and those of them that have no effect, with words of the reason.
CASES = [
    (
        {"fps": 12, "loop_count": 3, "reverse": True, "formats": ["MP4"], "preview": True},
        "fps loop_count reverse formats",
    ),
    ({"loop_count": 2, "formats": ["MP4", "Frame"]}, "loop_count"),
    ({"loop_count": 2, "formats": ["MP4", "GIF"]}, ""),
    ({"context_length": 24}, "context_length"),
    ({"context_length": 24, "frames": 0}, ""),
    ({"context_length": 8, "frames": 16}, ""),
    (
        {"overlap": 2, "stride": 2, "context_kind": "static", "fusion": "flat", "views": True},
        "overlap stride context_kind fusion views",
    ),
    ({"overlap": 2, "closed_loop": "A"}, "overlap"),
    (LONG | {"overlap": 2, "stride": 2, "context_kind": "static", "fusion": "flat", "views": True}, ""),
    (LONG | {"overlap": 2, "fusion": "flat", "context_kind": "batched"}, "overlap fusion"),
    (LONG | {"stride": 5}, "stride"),
    (LONG | {"stride": 3}, ""),
    (LONG | {"context_kind": "looped", "closed_loop": "A"}, "context_kind"),
    (LONG | {"overlap": 2, "fusion": "flat", "stride": 2, "model": ZERO}, "overlap fusion stride"),
    ({"closed_loop": "R-P"}, "closed_loop"),
    ({"closed_loop": "R+P"}, "closed_loop"),
    ({"closed_loop": "A"}, ""),
    (LONG | {"closed_loop": "R+P"}, "closed_loop"),
    (LONG | {"closed_loop": "R-P"}, "closed_loop"),
    (LONG | {"frames": 25, "closed_loop": "R-P"}, ""),
    ({"reverse": True, "frames": 2}, "reverse"),
    (
        {"travel_easing": "ease-in", "travel_hold": 0.5, "travel_interpolation": "linear"},
        "travel_easing travel_hold travel_interpolation",
    ),
    (
        {"effect": 0, "scale": 2, "effect_end": 0.5, "scale_steps": "0.5", "effect_steps": "0.5", "effect_start": 0.1},
        "scale effect_end scale_steps effect_steps effect_start",
    ),
    ({"effect": 0, "blocks": "mid scale 2", "motion_mask": mask(), "mask_of": "both"}, "blocks motion_mask mask_of"),
    ({"effect": "0: 0, 8: 1", "scale": 2}, ""),
    ({"effect": 0.5, "preview": True}, "effect"),
    ({"mask_of": "both"}, "mask_of"),
    ({"mask_of": "scale", "motion_mask": mask()}, "motion_mask"),
    ({"mask_of": "scale", "motion_mask": mask(), "scale": 2}, ""),
    ({"noise": "freenoise"}, "noise"),
    (LONG | {"noise": "freenoise"}, ""),
    (LONG | {"noise": "freenoise", "stride": 3}, "noise"),
    ({"noise_share": 0.2}, "noise_share"),
    ({"noise_share": 0.2, "noise": "shared"}, ""),
    ({"noise": "constant", "frame_seeds": "5, 6"}, "frame_seeds"),
    ({"noise": "constant", "frame_seeds": "5"}, ""),
    (
        {
            "freeinit_filter": "box",
            "freeinit_ds": 0.3,
            "freeinit_dt": 0.3,
            "freeinit_iters": 2,
            "freeinit_coarse": True,
        },
        "freeinit_filter freeinit_ds freeinit_dt freeinit_iters freeinit_coarse",
    ),
    ({"freeinit_enable": True, "freeinit_iters": 1, "freeinit_coarse": True}, "freeinit_enable freeinit_coarse"),
    (
        {"freeinit_enable": True, "freeinit_ds": 0, "freeinit_filter": "box", "freeinit_dt": 0.5},
        "freeinit_filter freeinit_dt",
    ),
    ({"freeinit_enable": True, "freeinit_dt": 0, "freeinit_ds": 0.5}, "freeinit_ds"),
    ({"zero_x": 3, "zero_y": 3, "zero_smoothing": 0.5}, "zero_x zero_y zero_smoothing"),
    ({"zero_x": 3, "model": ZERO}, ""),
    ({"request_id": "a", "preview": True}, "request_id"),
    ({"request_id": "a"}, ""),
]


def test_the_table_has_every_setting():
    assert list(EFFECTS) == list(SETTINGS)


@pytest.mark.parametrize(("settings", "idle"), CASES, ids=[str(settings)[:60] for settings, _ in CASES])
def test_a_changed_setting_without_effect_is_noted(settings, idle):
    assert set(noted(settings)) == set(idle.split())


def test_every_setting_has_a_case():
    assert {name for _, idle in CASES for name in idle.split()} == set(SETTINGS) - ALWAYS
    assert all((rules == ()) == (name in ALWAYS) for name, rules in EFFECTS.items())


def test_defaults_and_unknown_travels_are_not_noted():
    assert noted({}) == {}
    assert noted({"travel_hold": 0.5}, travels=None) == {}
    assert noted({"travel_hold": 0.5}, travels=True) == {}
    assert set(noted({"travel_hold": 0.5, "travel_interpolation": "step"}, travels=True)) == {"travel_hold"}
    assert noted({"closed_loop": "R+P"}, travels=True) == {}


@pytest.mark.parametrize("settings", [settings for settings, _ in CASES], ids=str)
def test_a_note_is_one_sentence(settings):
    for note in notes_of(parse_settings(settings), False):
        assert str(note).startswith(f"{note.setting} ")
        assert str(note).endswith(".")
        assert str(note).count(". ") == 0
        assert "{" not in str(note)


def test_a_setting_whose_other_values_act_is_not_idle():
    assert "closed_loop" not in idle_settings(parse_settings({"closed_loop": "R-P"}))
    assert "context_length" not in idle_settings(parse_settings({"context_length": 24}))
    assert "noise" not in idle_settings(parse_settings({"noise": "freenoise"}))
    assert "views" in idle_settings(parse_settings({}))


def test_arguments_that_are_accepted_and_ignored_are_noted():
    sent_by_itself = {"latent_power": 1, "latent_scale": 32, "interp": "Off", "interp_x": 10, "last_frame": None}
    assert foreign_notes(sent_by_itself) == ()
    found = foreign_notes(sent_by_itself | {"latent_power": 3, "latent_scale": 8})
    assert [note.setting for note in found] == ["latent_power", "latent_scale"]


def test_a_plan_knows_whether_its_prompt_travels():
    settings = parse_settings({"travel_hold": 0.5})
    assert [note.setting for note in plan_clip(settings, Sampling("a fox")).notes] == ["travel_hold"]
    assert plan_clip(settings, Sampling("0: a fox\n8: a bear")).notes == ()
    assert plan_of().notes == ()


# --------------------------------------------------------------------------------------------------------------------
# what a note says is true


@pytest.fixture(scope="module")
def pipeline():
    return new_pipeline()


@pytest.fixture(scope="module")
def motion():
    return new_motion()


WINDOWS = {"frames": 6, "context_length": 4, "overlap": 1}
SAME = [  # settings, and the changes that a note says are none
    ({}, {"overlap": 2, "stride": 2, "fusion": "flat", "context_kind": "static", "views": True}),
    ({}, {"closed_loop": "R-P", "context_length": 24}),
    ({"closed_loop": "A"}, {"overlap": 2, "stride": 2, "fusion": "flat", "views": True}),
    ({}, {"noise": "freenoise", "noise_share": 0.2, "freeinit_filter": "box", "mask_of": "both"}),
    ({"effect": 0}, {"scale": 2, "effect_end": 0.5, "blocks": "mid scale 2", "motion_mask": mask()}),
    ({}, {"mask_of": "scale", "motion_mask": mask()}),
    ({}, {"freeinit_enable": True, "freeinit_iters": 1}),
    ({"noise": "constant", "frame_seeds": "3"}, {"frame_seeds": "3, 9, 1"}),
    ({}, {"travel_hold": 0.5, "travel_easing": "ease-in", "travel_interpolation": "linear"}),
    (WINDOWS | {"context_kind": "batched", "overlap": -1}, {"overlap": 2, "fusion": "flat"}),
    (WINDOWS | {"closed_loop": "A"}, {"context_kind": "looped", "closed_loop": "R+P"}),
    (WINDOWS | {"stride": 2}, {"stride": 4}),
    ({"preview": True}, {"noise": "shared", "freeinit_enable": True, "effect": 0.5, "views": True}),
]


@pytest.mark.parametrize(("settings", "changes"), SAME, ids=[str(changes)[:60] for _, changes in SAME])
def test_a_clip_is_the_same_whatever_a_note_is_about(pipeline, motion, settings, changes):
    asked = {"frames": 4} | settings
    assert set(changes) & set(noted(asked | changes)), "nothing is said"
    assert torch.equal(clip_of(pipeline, motion, **asked | changes), clip_of(pipeline, motion, **asked))
