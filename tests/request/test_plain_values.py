"""Values whose meaning is plain are understood, in the forms in which clients of the existing extension send them."""

from __future__ import annotations

import pytest

from lib_animatediff import ClipError
from lib_animatediff.request.settings import SETTINGS, ClipSettings, parse_settings


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
        ({"format": "gif, mp4"}, {"formats": ("GIF", "MP4")}),
        ({"fusion": "FLAT"}, {"fusion": "flat"}),
        ({"request_id": 17}, {"request_id": "17"}),
        ({"interp": "off"}, {}),
        ({"interp": None}, {}),
        ({"interp": False}, {}),
        ({"video_source": None, "interp_x": None}, {}),
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
        {"no_such_name": None},
    ],
    ids=lambda given: str(given)[:30],
)
def test_what_has_no_plain_meaning_is_refused(given):
    with pytest.raises(ClipError):
        parse_settings(given)
