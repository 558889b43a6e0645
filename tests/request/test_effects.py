"""Which settings have no effect under which others: said for every setting, and true of the clips."""

from __future__ import annotations

import pytest
import torch
from support.plans import plan_of
from support.pocket_clips import TINY, clip_of
from support.setting_values import MASK

from lib_animatediff.request.effects import EFFECTS, idle_settings, notes_of
from lib_animatediff.request.foreign import foreign_notes
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import SETTINGS, parse_settings

ZERO = "Text2Video-Zero"
LONG = {"frames": 48}
# No other setting takes their effect away.
ALWAYS = {"enable", "model", "frames", "motion_loras", "preview", "guidance_start", "guidance_end", "speed", "video"}
ALWAYS |= {
    "image",
    "key_images",
    "pin_init",
    "continue_clip",
    "rerender_clip",
    "control_images",
    "control_weight",
    "control_fill",
}
ALWAYS |= {"sparse_ctrl", "scribbles"}
ALWAYS |= {"control_start", "control_end", "control_masks"}


def noted(settings: dict[str, object], travels: bool | None = False) -> dict[str, str]:
    return {note.setting: note.text for note in notes_of(parse_settings(settings), travels)}


WINDOWED = {"overlap": 2, "stride": 2, "context_kind": "static", "fusion": "flat", "views": True}
AMOUNTS = {"scale": 2, "effect_end": 0.5, "scale_steps": "0.5", "effect_steps": "0.5", "effect_start": 0.1}
FREEINIT = {"freeinit_ds": 0.3, "freeinit_dt": 0.3, "freeinit_iters": 2, "freeinit_coarse": True}
SPARSE = {"sparse_strength": 0.5, "sparse_start": 0.2, "sparse_end": 0.8, "sparse_colour_match": 0.5}
SPARSE |= {"sparse_without_key": "none"}
BEGUN = {"i2v_drift": 0.4, "i2v_strength": 0.5}
FILMED = {"camera_model": "camera.safetensors", "camera_strength": 0.5, "camera_start": 0.2, "camera_end": 0.8}
FROM_VIDEO = {
    "denoise": 0.3,
    "video_inversion": 0.5,
    "video_start": 1,
    "video_end": 5,
    "video_every": 2,
    "video_fps": 5,
    "video_fit": "pad",
    "video_mute": True,
    "mask": "a.png",
    "mask_invert": True,
    "mask_feather": 9,
}
HOLDING = {"image_fit": "pad", "pin_strength": 0.5, "pin_inversion": 0.5, "source_size": "shape"}
RAMPS = {"latent_power": 2, "last_frame": "a.png", "latent_power_last": 2, "latent_scale_last": 8}
# Settings, changes to them, and whether these are without effect.
CASES = [
    ({"preview": True}, {"fps": 12, "loop_count": 3, "reverse": True, "formats": ["MP4"]}, True),
    ({"formats": ["MP4", "Frame"]}, {"loop_count": 2}, True),
    ({"formats": ["MP4", "GIF"]}, {"loop_count": 2}, False),
    ({}, {"context_length": 24}, True),
    ({"frames": 0}, {"context_length": 24}, False),
    ({"frames": 16}, {"context_length": 8}, False),
    ({}, WINDOWED, True),
    ({"closed_loop": "A"}, {"overlap": 2}, True),
    (LONG, WINDOWED, False),
    (LONG | {"context_kind": "batched"}, {"overlap": 2, "fusion": "flat"}, True),
    (LONG, {"stride": 5}, True),
    (LONG, {"stride": 3}, False),
    (LONG | {"closed_loop": "A"}, {"context_kind": "looped"}, True),
    (LONG | {"model": ZERO}, {"overlap": 2, "fusion": "flat", "stride": 2}, True),
    ({}, {"closed_loop": "R-P"}, True),
    ({}, {"closed_loop": "R+P"}, True),
    ({}, {"closed_loop": "A"}, False),
    (LONG, {"closed_loop": "R+P"}, True),
    (LONG, {"closed_loop": "R-P"}, True),
    ({"frames": 25}, {"closed_loop": "R-P"}, False),
    ({"frames": 2}, {"reverse": True}, True),
    ({}, {"travel_easing": "ease-in", "travel_hold": 0.5, "travel_interpolation": "linear"}, True),
    ({"effect": 0}, AMOUNTS, True),
    ({"effect": 0}, {"blocks": "mid scale 2", "motion_mask": MASK, "mask_of": "both"}, True),
    ({"effect": "0: 0, 8: 1"}, {"scale": 2}, False),
    ({"preview": True}, {"effect": 0.5}, True),
    ({}, {"mask_of": "both"}, True),
    ({"mask_of": "scale"}, {"motion_mask": MASK}, True),
    ({"mask_of": "scale", "scale": 2}, {"motion_mask": MASK}, False),
    ({}, {"noise": "freenoise"}, True),
    (LONG, {"noise": "freenoise"}, False),
    (LONG | {"stride": 3}, {"noise": "freenoise"}, True),
    ({}, {"noise_share": 0.2}, True),
    ({"noise": "shared"}, {"noise_share": 0.2}, False),
    ({"noise": "constant"}, {"frame_seeds": "5, 6"}, True),
    ({"noise": "constant"}, {"frame_seeds": "5"}, False),
    ({}, FREEINIT | {"freeinit_filter": "box"}, True),
    ({"freeinit_iters": 1}, {"freeinit_enable": True, "freeinit_coarse": True}, True),
    ({"freeinit_enable": True, "freeinit_ds": 0}, {"freeinit_filter": "box", "freeinit_dt": 0.5}, True),
    ({"freeinit_enable": True, "freeinit_dt": 0}, {"freeinit_ds": 0.5}, True),
    ({}, {"zero_x": 3, "zero_y": 3, "zero_smoothing": 0.5}, True),
    ({"model": ZERO}, {"zero_x": 3}, False),
    ({"preview": True}, {"reuse": 2}, True),
    ({}, {"reuse": 2}, False),
    ({}, {"reuse_branch": 1, "reuse_on_cpu": True}, True),
    ({"reuse": 2}, {"reuse_branch": 1, "reuse_on_cpu": True}, False),
    ({"preview": True}, {"guidance_start": 0.1, "guidance_end": 0.6}, False),
    ({"preview": True}, {"interpolate": "x2"}, True),
    ({"frames": 1}, {"interpolate": "x2"}, True),
    ({"formats": ["TXT", "Frame"]}, {"interpolate": "x2"}, True),
    ({"fps": 24}, {"interpolate": "24"}, True),
    ({}, {"interpolate": "24"}, False),
    ({}, {"interpolator": "dis"}, True),
    ({"interpolate": "x2"}, {"interpolator": "dis"}, False),
    ({"preview": True}, {"upscale": 2}, True),
    ({}, {"upscale": 2}, False),
    ({}, {"upscale_denoise": 0.5}, True),
    ({"upscale": 2}, {"upscale_denoise": 0.5}, False),
    ({"preview": True}, {"request_id": "a", "resume": True}, True),
    ({}, {"request_id": "a"}, False),
    ({}, FROM_VIDEO, True),
    ({"video": "a.mp4", "formats": ["MP4"]}, FROM_VIDEO, False),
    ({"video": "a.mp4"}, {"video_mute": True}, True),
    ({"video": "a.mp4"}, {"mask_invert": True, "mask_feather": 9}, True),
    ({"video": "a.mp4"}, {"denoise": "0: 0.8, 9: 0.3", "mask": "alpha"}, False),
    ({"video": "a.mp4", "denoise": 0}, {"video_inversion": 0.5}, True),
    ({"video": "a.mp4", "video_inversion": 1}, {"noise": "constant", "freeinit_enable": True}, True),
    ({"video": "a.mp4", "video_inversion": 0.9}, {"noise": "constant", "freeinit_enable": True}, False),
    ({}, HOLDING, True),
    ({"image": "a.png"}, HOLDING, False),
    ({"pin_init": True}, HOLDING, False),
    ({"continue_clip": "a.gif"}, HOLDING | {"keep_frames": 2}, False),
    ({}, {"keep_frames": 2}, True),
    ({}, {"rerender_frames": "3", "rerender_strength": 0.5}, True),
    ({"rerender_clip": "a.gif"}, {"rerender_frames": "3", "rerender_strength": 0.5}, False),
    ({"rerender_clip": "a.gif"}, {"image_fit": "pad", "source_size": "shape", "pin_inversion": 0.5}, True),
    ({"image": "a.png", "video": "a.mp4"}, {"pin_inversion": 0.5}, True),
    ({"preview": True}, {"last_image": "a.png"}, True),
    ({"latent_scale": 0}, RAMPS, True),
    ({"latent_scale": 32}, RAMPS, False),
    ({"latent_scale": 32}, {"latent_power_last": 2, "latent_scale_last": 8}, True),
    ({"video": "a.mp4"}, {"latent_scale": 32}, True),
    ({"rerender_clip": "a.gif"}, {"latent_scale": 32, **RAMPS}, True),
    ({}, SPARSE | {"image_method": "pins", "pia_motion": "large"}, True),
    ({}, BEGUN | FILMED | {"camera_every": 2}, True),
    ({"image": "a.png", "camera": "pan-left"}, BEGUN | FILMED, False),
    ({"camera": "pan-left"}, {"camera_every": 2}, True),
    ({"camera": "path.txt"}, {"camera_every": 2}, False),
    ({"preview": True}, {"camera": "pan-left"}, True),
    ({"sparse_ctrl": "rgb.safetensors", "image": "a.png"}, {"image_method": "pins", "pia_motion": "large"}, False),
    ({**LONG, "sparse_ctrl": "rgb.safetensors", "image": "a.png"}, SPARSE, False),
    ({"sparse_ctrl": "rgb.safetensors", "image": "a.png"}, {"sparse_without_key": "none"}, True),
    ({"control_images": "0: a.mp4"}, {"control_reach": 4}, True),
    ({"control_images": "0@3: a.png"}, {"control_reach": 4}, False),
]


@pytest.mark.parametrize(("settings", "changes", "idle"), CASES, ids=lambda part: str(part)[:60])
def test_a_changed_setting_without_effect_is_noted_in_a_sentence(settings, changes, idle):
    notes = notes_of(parse_settings(settings | changes), False)
    assert {note.setting for note in notes} == (set(changes) if idle else set())
    for note in notes:
        assert str(note).startswith(f"{note.setting} ")
        assert str(note).endswith(".")
        assert str(note).count(". ") == 0
        assert "{" not in str(note)


def test_every_setting_is_in_the_table_and_has_a_case():
    assert list(EFFECTS) == list(SETTINGS)
    assert {name for _, changes, idle in CASES if idle for name in changes} == set(SETTINGS) - ALWAYS
    assert all((rules == ()) == (name in ALWAYS) for name, rules in EFFECTS.items())


def test_defaults_and_unknown_travels_are_not_noted():
    assert noted({}) == {}
    assert noted({"travel_hold": 0.5}, travels=None) == {}
    assert noted({"travel_hold": 0.5}, travels=True) == {}
    assert set(noted({"travel_hold": 0.5, "travel_interpolation": "step"}, travels=True)) == {"travel_hold"}
    assert noted({"closed_loop": "R+P"}, travels=True) == {}


def test_a_setting_whose_other_values_act_is_not_idle():
    assert "closed_loop" not in idle_settings(parse_settings({"closed_loop": "R-P"}))
    assert "context_length" not in idle_settings(parse_settings({"context_length": 24}))
    assert "noise" not in idle_settings(parse_settings({"noise": "freenoise"}))
    assert "views" in idle_settings(parse_settings({}))
    assert "interpolate" not in idle_settings(parse_settings({"fps": 24, "interpolate": "24"}))


def test_arguments_that_are_accepted_and_ignored_are_noted():
    assert foreign_notes({"interp": "Off", "interp_x": 10, "is_i2i_batch": False}) == ()
    (flow,) = foreign_notes({"interp": "FILM", "interp_x": 4})
    assert str(flow) == "interp adds frames by optical flow or RIFE instead of FILM, as interpolate does."
    (idle,) = foreign_notes({"interp": "Off", "interp_x": 4})
    assert idle.setting == "interp_x"


def test_a_plan_knows_whether_its_prompt_travels():
    settings = parse_settings({"travel_hold": 0.5})
    assert [note.setting for note in plan_clip(settings, Sampling("a fox")).notes] == ["travel_hold"]
    assert plan_clip(settings, Sampling("0: a fox\n8: a bear")).notes == ()
    assert plan_of().notes == ()


# --------------------------------------------------------------------------------------------------------------------
# what a note says is true


WINDOWS = {"frames": 6, "context_length": 4, "overlap": 1}
SAME = [  # settings, and the changes that a note says are none
    ({}, WINDOWED),
    ({}, {"closed_loop": "R-P", "context_length": 24}),
    ({"closed_loop": "A"}, {"overlap": 2, "stride": 2, "fusion": "flat", "views": True}),
    ({}, {"noise": "freenoise", "noise_share": 0.2, "freeinit_filter": "box", "mask_of": "both"}),
    ({"effect": 0}, {"scale": 2, "effect_end": 0.5, "blocks": "mid scale 2", "motion_mask": MASK}),
    ({}, {"mask_of": "scale", "motion_mask": MASK}),
    ({}, {"freeinit_enable": True, "freeinit_iters": 1}),
    ({"noise": "constant", "frame_seeds": "3"}, {"frame_seeds": "3, 9, 1"}),
    ({}, {"travel_hold": 0.5, "travel_easing": "ease-in", "travel_interpolation": "linear"}),
    (WINDOWS | {"context_kind": "batched", "overlap": -1}, {"overlap": 2, "fusion": "flat"}),
    (WINDOWS | {"closed_loop": "A"}, {"context_kind": "looped", "closed_loop": "R+P"}),
    (WINDOWS | {"stride": 2}, {"stride": 4}),
    ({"preview": True}, {"noise": "shared", "freeinit_enable": True, "effect": 0.5, "views": True}),
]


@pytest.fixture(scope="module")
def made(pipeline, motion):
    """The clip of some settings, which is made once."""
    known = {}

    def made(**settings):
        key = repr(sorted(settings.items()))
        if key not in known:
            known[key] = clip_of(pipeline, motion, size=TINY, **settings)
        return known[key]

    return made


@pytest.mark.parametrize(("settings", "changes"), SAME, ids=[str(changes)[:60] for _, changes in SAME])
def test_a_clip_is_the_same_whatever_a_note_is_about(clip, made, settings, changes):
    asked = {"frames": 4} | settings
    assert set(changes) & set(noted(asked | changes)), "nothing is said"
    assert torch.equal(clip(size=TINY, **asked | changes), made(**asked))
