"""Values are checked once, at the door; every refusal says what to do; they come back from a saved image."""

from __future__ import annotations

import json
import math
import time

import pytest
from hypothesis import given
from hypothesis import settings as budget
from hypothesis import strategies as st
from support.setting_values import TEXTS, fitting, other_than_default

from lib_animatediff import ClipError
from lib_animatediff.request.settings import (
    SETTINGS,
    ClipSettings,
    canonical_name,
    from_infotext,
    parse_settings,
    to_infotext,
)

NUMBERS = [setting for setting in SETTINGS.values() if setting.type in (int, float)]
CHOICES = [setting for setting in SETTINGS.values() if setting.choices]
ALIASES = {alias: name for name, setting in SETTINGS.items() for alias in setting.aliases}
OF_THE_EXISTING_EXTENSION = {  # what its clients send for a plain clip
    "format": ["GIF"],
    "interp": "Off",
    "interp_x": 10,
    "video_source": None,
    "video_path": "",
    "mask_path": "",
    "freeinit_enable": False,
    "freeinit_filter": "butterworth",
    "freeinit_ds": 0.25,
    "freeinit_dt": 0.25,
    "freeinit_iters": 3,
    "latent_power": 1,
    "latent_scale": 32,
    "last_frame": None,
    "latent_power_last": 1,
    "latent_scale_last": 32,
    "request_id": "",
}


def refusal(values):
    with pytest.raises(ClipError) as caught:
        parse_settings(values)
    assert len(str(caught.value)) < 300
    return str(caught.value)


# What is accepted --------------------------------------------------------------------------------------------------


def test_nothing_given_is_the_defaults():
    assert parse_settings({}) == ClipSettings(
        enable=False, model="", frames=16, fps=8.0, loop_count=0, context_length=16
    )


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_is_taken_under_its_name(name):
    value = other_than_default(SETTINGS[name])
    assert getattr(parse_settings({name: value}), name) == value


@pytest.mark.parametrize("alias", ALIASES)
def test_every_alias_stands_for_its_setting(alias):
    value = other_than_default(SETTINGS[ALIASES[alias]])
    assert getattr(parse_settings({alias: value}), ALIASES[alias]) == value
    assert canonical_name(alias) == ALIASES[alias]


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_both_ends_of_a_range_are_in_it(setting):
    room = {"context_length": SETTINGS["context_length"].maximum} if setting.name == "overlap" else {}
    for value in (setting.minimum, setting.maximum):
        got = getattr(parse_settings({setting.name: value, **room}), setting.name)
        assert got == value
        assert type(got) is setting.type


def test_a_whole_float_is_a_whole_number():
    """As sliders and JSON give it."""
    assert repr(parse_settings({"frames": 24.0}).frames) == "24"


@pytest.mark.parametrize("name", OF_THE_EXISTING_EXTENSION)
def test_plain_arguments_of_the_existing_extension_are_let_pass(name):
    value = OF_THE_EXISTING_EXTENSION[name]
    # Each of its image to video's values asks for that, which is off here without them.
    is_ramp = name.startswith("latent_")
    assert parse_settings({name: value}) == (ClipSettings(latent_scale=32.0) if is_ramp else ClipSettings())


# Values whose meaning is plain, in the forms in which clients of the existing extension send them ---------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ({"video_length": "16"}, {"frames": 16}),
        ({"video_length": " 24.0 "}, {"frames": 24}),
        ({"fps": "12.5"}, {"fps": 12.5}),
        ({"closed_loop": "a"}, {"closed_loop": "A"}),
        ({"closed_loop": "r+p"}, {"closed_loop": "R+P"}),
        ({"closed_loop": True}, {"closed_loop": "A"}),
        ({"closed_loop": False}, {}),
        ({"enable": "true"}, {"enable": True}),
        ({"enable": 1}, {"enable": True}),
        ({"reverse": "off"}, {"reverse": False}),
        ({"reverse": []}, {}),
        ({"reverse": [0, 2]}, {"reverse": True}),
        ({"reverse": [1]}, {}),
        ({"is_i2i_batch": False, "video_default": False, "prompt_scheduler": None}, {}),
        ({"format": "gif, mp4"}, {"formats": ("GIF", "MP4")}),
        ({"fusion": "FLAT"}, {"fusion": "flat"}),
        ({"request_id": 17}, {"request_id": "17"}),
        ({"interp": "off"}, {}),
        ({"interp": None}, {}),
        ({"interp": False}, {}),
        ({"video_source": None, "interp_x": None}, {}),
        ({"interp": "FILM", "interp_x": 3, "fps": 24}, {"interpolate": "x3", "fps": 8.0}),
        ({"interp": "film", "interp_x": "2"}, {"interpolate": "x2", "fps": 4.0}),
        ({"interp": "FILM"}, {"interpolate": "8", "fps": 1.0}),
        ({"interp": "FILM", "interp_x": 1}, {}),
        ({"interpolate": "2X"}, {"interpolate": "x2"}),
        ({"interpolate": 24}, {"interpolate": "24"}),
        ({"interpolate": "23.976 fps"}, {"interpolate": "23.976"}),
        ({"interpolate": "Off"}, {}),
        ({"interpolate": ""}, {}),
    ],
)
def test_the_plain_meaning_is_taken(given, meant):
    assert parse_settings(given) == ClipSettings(**meant)


@pytest.mark.parametrize("name", SETTINGS)
def test_null_means_that_a_setting_was_not_sent(name):
    assert parse_settings({name: None}) == ClipSettings()


@pytest.mark.parametrize(
    "given",
    [
        {"frames": "1e3"},
        {"frames": "16.5"},
        {"frames": "9" * 400},
        {"frames": "٣"},
        {"closed_loop": "B"},
        {"reverse": [3]},
        {"is_i2i_batch": True},
        {"interp": "FILM", "interp_x": 11},
        {"interp": "FILM", "interp_x": 2.5},
        {"interp": "FILM", "interp_x": []},
        {"interpolate": "x0"},
        {"interpolate": "fast"},
        {"interpolate": -24},
        {"interpolate": "241"},
        {"interpolate": "x4", "fps": 100},
        {"no_such_name": None},
    ],
    ids=lambda given: str(given)[:30],
)
def test_what_has_no_plain_meaning_is_refused(given):
    refusal(given)


# What is refused ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("video_lenght", "Did you mean video_length?"),
        ("frame", "Did you mean frames?"),
        ("Model", "Did you mean model?"),
        ("closed-loop", "Did you mean closed_loop?"),
        ("overlaps", "Did you mean overlap?"),
        ("xyz", "Known settings: enable, model, frames"),
        ("x" * 100_000, "Known settings"),
    ],
)
def test_an_unknown_name_is_answered_with_the_nearest_known_one(name, hint):
    assert hint in refusal({name: 1})


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("interp", "RIFE", "send 'Off'"),
    ],
)
def test_an_argument_that_asks_for_more_is_refused_with_what_to_do(name, value, remedy):
    assert f"Leave {name} out, or {remedy}" in refusal({name: value})


def test_any_value_of_the_existing_extensions_ramp_turns_it_on():
    for asked in ({"latent_power": 2}, {"last_frame": "a.png"}, {"latent_scale_last": 8}):
        assert parse_settings(asked).latent_scale == 32
    assert parse_settings({"latent_power": 2, "latent_scale": 0}).latent_scale == 0
    assert parse_settings({"latent_power": None, "last_frame": ""}).latent_scale == 0


def test_two_names_of_a_setting_may_agree_but_not_disagree():
    assert parse_settings({"frames": 8, "video_length": 8}).frames == 8
    assert "Give only frames" in refusal({"frames": 8, "video_length": 16})


@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_beyond_both_ends_of_a_range_the_range_is_told(setting):
    step = 1 if setting.type is int else 0.001
    for value in (setting.minimum - step, setting.maximum + step, 10**400):
        told = f"{setting.name} must be between {setting.minimum:g} and {setting.maximum:g}"
        assert told in refusal({setting.name: value})


@pytest.mark.parametrize("value", [True, "many", "", [16], {}, math.nan, math.inf, -math.inf], ids=repr)
@pytest.mark.parametrize("setting", NUMBERS, ids=lambda setting: setting.name)
def test_what_is_no_number_is_refused(setting, value):
    assert f"{setting.name} must be" in refusal({setting.name: value})


@pytest.mark.parametrize(
    ("name", "words", "values"),
    [("enable", "true or false", [2, 0.5, "perhaps", []]), ("model", "a string", [5, True, ["mm.ckpt"]])],
)
def test_a_switch_is_true_or_false_and_a_model_is_a_text(name, words, values):
    for value in values:
        assert f"{name} must be {words}" in refusal({name: value})


@pytest.mark.parametrize("setting", [s for s in CHOICES if s.type is str], ids=lambda setting: setting.name)
def test_a_choice_is_one_of_a_few(setting):
    for choice in setting.choices:
        assert getattr(parse_settings({setting.name: choice}), setting.name) == choice
    assert f"{setting.name} must be one of {', '.join(setting.choices)}" in refusal({setting.name: "sideways"})


@pytest.mark.parametrize("setting", [s for s in CHOICES if s.type is tuple], ids=lambda setting: setting.name)
def test_several_of_a_few(setting):
    """A list or a single one, in any case of letters, each once."""
    for choice in setting.choices:
        assert getattr(parse_settings({setting.name: choice.lower()}), setting.name) == (choice,)
    everything = [*setting.choices, setting.choices[0]]
    assert getattr(parse_settings({setting.name: everything}), setting.name) == setting.choices
    message = refusal({setting.name: ["sideways"]})
    assert f"{setting.name} does not support 'sideways'. Use {', '.join(setting.choices)}." in message
    for value in ([], 5, [1], {}):
        assert f"{setting.name} must be a list of {', '.join(setting.choices)}" in refusal({setting.name: value})


@pytest.mark.parametrize(
    ("values", "remedy"),
    [
        ({"context_length": 16, "overlap": 16}, "Set it below 16"),
        ({"context_length": 0, "overlap": 20}, "Set it below 16"),
        ({"context_length": 8, "overlap": 100}, "Set it below 8"),
        ({"context_kind": "static", "closed_loop": "A"}, "Set context_kind to uniform or looped"),
        ({"context_kind": "batched", "closed_loop": "A"}, "Set context_kind to uniform or looped"),
        ({"frames": 16.5}, "frames must be a whole number, not 16.5"),
    ],
)
def test_windows_that_would_not_advance_or_cannot_loop_and_parts_of_frames_are_refused(values, remedy):
    assert remedy in refusal(values)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = st.sampled_from([*SETTINGS, *ALIASES, *OF_THE_EXISTING_EXTENSION]) | st.text(max_size=20)


@given(st.dictionaries(NAMES, JSON, max_size=4))
@budget(deadline=None)
def test_any_json_is_settings_or_a_refusal(values):
    try:
        settings = parse_settings(values)
    except ClipError:
        return
    assert parse_settings(vars(settings)) == settings


# There and back through a saved picture ----------------------------------------------------------------------------


def within(setting):
    if setting.name in TEXTS:
        return st.sampled_from([setting.default, TEXTS[setting.name]])
    if setting.type is tuple:
        return st.lists(st.sampled_from(setting.choices), min_size=1).map(lambda chosen: tuple(dict.fromkeys(chosen)))
    if setting.type is str:
        return st.sampled_from(setting.choices) if setting.choices else MODEL_NAMES
    if setting.type is int:
        return st.integers(setting.minimum, setting.maximum)
    return st.floats(setting.minimum, setting.maximum) if setting.type is float else st.booleans()


MODEL_NAMES = st.text(st.characters(exclude_categories=["Cs"]) | st.sampled_from(', :"\n\\'), max_size=20)

VALID = st.fixed_dictionaries({name: within(setting) for name, setting in SETTINGS.items()}).map(fitting)


@given(VALID)
@budget(deadline=None)
def test_valid_settings_come_back_from_the_infotext(values):
    settings = parse_settings(values)
    line = to_infotext(settings, mm_hash="1234abcd")
    assert "\n" not in line
    assert parse_settings(from_infotext(line)) == settings


def test_the_infotext_reads_well():
    settings = parse_settings({"enable": True, "model": "v3_sd15_mm.ckpt", "fps": 23.976023})
    assert to_infotext(settings, mm_hash="1234abcd", request_id=None) == (
        "enable: True, model: v3_sd15_mm.ckpt, frames: 16, fps: 23.976023, loop_count: 0, context_length: 16, "
        "overlap: -1, stride: 1, context_kind: uniform, fusion: pyramid, closed_loop: N, reverse: False, "
        "formats: GIF, mm_hash: 1234abcd"
    )
    assert "fps: 8," in to_infotext(ClipSettings())


def test_a_model_not_named_is_not_in_the_infotext():
    assert "model" not in to_infotext(ClipSettings())
    assert from_infotext("enable: True, model: , video_length: 16") == {"enable": True, "frames": 16}


def test_the_existing_extensions_infotext_is_read():
    line = (
        "enable: True, model: mm_sd15_v3.safetensors, video_length: 16, fps: 8, loop_number: 0, closed_loop: R-P, "
        "batch_size: 16, stride: 1, overlap: 4, interp: Off, interp_x: 10, mm_hash: 1234abcd"
    )
    assert from_infotext(line) == {
        "enable": True,
        "model": "mm_sd15_v3.safetensors",
        "frames": 16,
        "fps": 8.0,
        "loop_count": 0,
        "context_length": 16,
        "closed_loop": "R-P",
        "stride": 1,
        "overlap": 4,
    }


@pytest.mark.parametrize("value", ["abc", "nan", "inf", "-inf", "1e999", "", '"\\x"', '"8'])
def test_a_number_that_cannot_be_read_is_left_out(value):
    assert from_infotext(f"frames: {value}, fps: 12") == {"fps": 12.0}


def test_a_name_inside_a_value_is_no_setting():
    model = "odd, fps: 50, enable: False"
    assert from_infotext(f"model: {json.dumps(model)}, frames: 8") == {"model": model, "frames": 8}


PIECES = st.sampled_from([*SETTINGS, *ALIASES, ": ", ", ", '"', "\\", "nan", "1e999", "-1", "True"]) | st.text(
    max_size=5
)


@given(st.lists(PIECES, max_size=20).map("".join))
@budget(max_examples=200, deadline=None)
def test_any_text_is_read_without_an_error(text):
    assert from_infotext(text).keys() <= SETTINGS.keys()


def test_a_long_text_is_read_at_once():
    start = time.perf_counter()
    for text in ("x" * 100_000, "x: " * 30_000, 'model: "' * 10_000, ", x" * 30_000):
        from_infotext(text)
    assert time.perf_counter() - start < 1
