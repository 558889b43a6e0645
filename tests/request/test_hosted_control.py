"""What a request says about units that its host has loaded: sources, images at frames, and weights."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_animatediff.request.control.choosing import choose_hosted
from lib_animatediff.request.control.hosted import (
    HostedControl,
    UnitImage,
    in_words,
    parse_unit_images,
    parse_unit_weights,
)
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.video.source import Source
from motion_module import ClipError

TEXTS = {
    "": [],
    "in/walk.mp4": [UnitImage("in/walk.mp4")],
    "in/a, b.mp4": [UnitImage("in/a, b.mp4")],
    "0: in/walk.mp4": [UnitImage("in/walk.mp4", 0)],
    "0: in/walk.mp4, 2:in/poses": [UnitImage("in/walk.mp4", 0), UnitImage("in/poses", 2)],
    "0@-1: a.png, 0@8: in/b, c.png": [UnitImage("a.png", 0, -1), UnitImage("in/b, c.png", 0, 8)],
    "0: in/walk.mp4\n1: x": [UnitImage("in/walk.mp4", 0), UnitImage("x", 1)],
    "1: D:/in/walk.mp4": [UnitImage("D:/in/walk.mp4", 1)],
    "D:/in/walk.mp4": [UnitImage("D:/in/walk.mp4")],
}


@pytest.mark.parametrize("text", TEXTS)
def test_sources(text):
    assert parse_unit_images(text) == TEXTS[text]
    assert parse_unit_images(in_words(TEXTS[text])) == TEXTS[text]


@pytest.mark.parametrize(("text", "code"), [("0:", "AD-H40"), ("0: a, 0: b", "AD-H41"), ("1@2: a, 1@2: b", "AD-H41")])
def test_sources_that_cannot_be(text, code):
    with pytest.raises(ClipError) as refused:
        parse_unit_images(text)
    assert refused.value.code == code


def test_weights_of_all_units_and_of_each():
    assert parse_unit_weights("0.5") == [(0.5,)]
    assert parse_unit_weights("1; 0: 1, 2: 0", 3) == [(1.0,), (1.0, 0.5, 0.0)]
    for_all, each = HostedControl(weight="0: 0, 2: 1"), HostedControl(weight="1; 0.5")
    assert for_all.weights(0, 4) == for_all.weights(3, 4) == (0.0, 0.5, 1.0, 1.0)
    assert [each.weights(number, 2) for number in range(3)] == [(1, 1), (0.5, 0.5), (1, 1)]


def test_a_units_images():
    walk, own = Source(Path("walk.mp4")), Source(Path("own"))
    named = HostedControl(tuple(parse_unit_images("1: walk.mp4, 2@-1: a.png")), reach=4)
    assert named.unit(0, "net", 9) is None
    assert named.unit(0, "net", 9, own).source == own
    assert named.unit(1, "net", 9, own).source == walk
    keyed = named.unit(2, "net", 9, own)
    assert (keyed.source, [(key.frame, key.path.name) for key in keyed.keys]) == (None, [(8, "a.png")])
    assert keyed.weights(9)[4:] == (0.0, 0.25, 0.5, 0.75, 1.0)
    assert HostedControl((UnitImage("walk.mp4"),)).unit(7, "net", 9).source == walk


@pytest.mark.parametrize(("text", "code"), [("0: a, 0@1: b", "AD-H42"), ("0@9: a", "AD-H43")])
def test_images_that_a_clip_cannot_have(text, code):
    with pytest.raises(ClipError) as refused:
        HostedControl(tuple(parse_unit_images(text))).unit(0, "net", 9)
    assert refused.value.code == code


@pytest.mark.parametrize(
    ("hosted", "present", "idle"),
    [
        (HostedControl(), [], {}),
        (HostedControl((UnitImage("a"),)), [1], {}),
        (HostedControl((UnitImage("a", 1),), "0.5"), [1], {}),
        (HostedControl((UnitImage("a"),), "0.5"), [], {"control_images", "control_weight"}),
        (HostedControl((UnitImage("a", 0), UnitImage("b", 1))), [1], {"control_images"}),
        (HostedControl(weight="1; 0.5"), [0], {"control_weight"}),
        (HostedControl(start="0.2", end="1; 0.5"), [0], {"control_end"}),
        (HostedControl(masks=(UnitImage("a", 1),)), [0], {"control_masks"}),
        (HostedControl(fill="loop"), [], {"control_fill"}),
        (HostedControl(fill="loop"), [0], {}),
    ],
)
def test_settings_about_units_that_are_not_there(hosted, present, idle):
    assert set(hosted.idle(present)) == set(idle)


def test_steps_and_masks_of_a_unit():
    hosted = HostedControl(start="0; 0: 0, 2: 0.4", end="1; 0.8", masks=(UnitImage("a.png", 1),))
    assert hosted.parts(0, 4) == [(0.0, 1.0)] * 4
    assert hosted.parts(1, 4) == [(0.0, 0.8), (0.2, 0.8), (0.4, 0.8), (0.4, 0.8)]
    assert hosted.parts(2, 4) == [(0.0, 1.0)] * 4
    assert (hosted.mask(0), hosted.mask(1)) == (None, Source(Path("a.png")))


def test_paths_are_those_that_the_host_finds():
    asked = parse_settings({"control_images": "0: walk.mp4, 1@3: a.png", "control_weight": 0.5, "control_fill": "loop"})
    settings, hosted = choose_hosted(asked, lambda text: (Path("/in") / text, f"in/{text}"))
    assert settings.control_images == "0: in/walk.mp4, 1@3: in/a.png"
    assert [image.path for image in hosted.images] == ["/in/walk.mp4", "/in/a.png"]
    assert (hosted.weight, hosted.fill, hosted.reach) == ("0.5", "loop", 8)
