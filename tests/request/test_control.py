"""Units of control models: which image and which weight each frame has, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from lib_animatediff import ClipError, ControlUnit, Pin
from lib_animatediff.request.control.unit import FILLS, control_from_json
from lib_animatediff.request.start.pins import path_in
from lib_animatediff.video.source import Source

MODEL, FILM = Path("canny.safetensors"), Source(Path("a.mp4"))


def unit(**options):
    return ControlUnit(MODEL, **({"source": FILM} | options))


@pytest.mark.parametrize(
    ("fill", "images", "order"),
    [
        ("hold", 3, [0, 1, 2, 2, 2]),
        ("loop", 3, [0, 1, 2, 0, 1]),
        ("stretch", 3, [0, 1, 1, 2, 2]),
        ("stretch", 2, [0, 0, 1, 1, 1]),
        ("stretch", 9, [0, 2, 4, 6, 8]),
        ("hold", 9, [0, 1, 2, 3, 4]),
        ("loop", 9, [0, 1, 2, 3, 4]),
        ("refuse", 9, [0, 1, 2, 3, 4]),
        *((fill, 1, [0] * 5) for fill in FILLS),
    ],
)
def test_each_frame_has_an_image(fill, images, order):
    assert unit(fill=fill).order(5, images) == order


def test_a_single_frame_has_the_first_image():
    assert [unit(fill=fill).order(1, 4) for fill in FILLS] == [[0]] * 4


def test_weights_travel_and_fall_with_the_distance_to_a_key():
    assert unit(weight="0.8").weights(3) == (0.8, 0.8, 0.8)
    assert unit(weight="1, 0.5").weights(4) == (1, 0.5, 0.5, 0.5)
    assert unit(weight="0: 1, 4: 0").weights(5) == (1, 0.75, 0.5, 0.25, 0)
    keys = (Pin(6, Path("b.png")), Pin(1, Path("a.png")))
    own = unit(source=None, keys=keys, reach=2, weight="0.8")
    assert own.weights(9) == (0.4, 0.8, 0.4, 0, 0, 0.4, 0.8, 0.4, 0)
    assert own.order(9, 0) == [0, 0, 0, 0, 1, 1, 1, 1, 1]
    assert own.images == "a.png, b.png"


def test_the_infotext_names_everything():
    own = unit(preprocessor="canny", weight="0: 1, 4: 0", end=0.5)
    assert str(own) == "canny.safetensors, canny of a.mp4, weight 0: 1, 4: 0, steps 0 to 0.5"
    assert str(unit()) == "canny.safetensors, a.mp4, weight 1"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"source": None}, "AD-H10"),
        ({"keys": (Pin(0, Path("a.png")),)}, "AD-H10"),
        ({"preprocessor": "depth"}, "AD-H11"),
        ({"start": 0.5, "end": 0.5}, "AD-H12"),
        ({"end": 1.1}, "AD-H12"),
        ({"start": float("nan")}, "AD-H12"),
        ({"fill": "stop"}, "AD-H13"),
        ({"reach": 0}, "AD-H14"),
        ({"source": None, "keys": (Pin(1, Path("a.png")), Pin(1, Path("b.png")))}, "AD-H15"),
    ],
    ids=str,
)
def test_what_is_out_of_range_is_refused(options, code):
    with pytest.raises(ClipError) as caught:
        unit(**options)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("act", "code"),
    [
        (lambda: unit(fill="refuse").order(5, 3), "AD-H16"),
        (lambda: unit(source=None, keys=(Pin(5, Path("a.png")),)).check_frames(5), "AD-H17"),
        (lambda: unit(weight="0: 1, 5: 0").check_frames(5), "AD-C22"),
        (lambda: unit(weight="3").check_frames(5), "AD-C28"),
        (lambda: unit(weight="loud").check_frames(5), "AD-C27"),
    ],
)
def test_what_does_not_fit_the_clip_is_refused(act, code):
    with pytest.raises(ClipError) as caught:
        act()
    assert caught.value.code == code


def test_json_comes_back_and_damage_is_refused():
    for own in (
        unit(source=Source(Path("a.mp4"), end=4, fps=8.0)),
        unit(source=None, keys=(Pin(3, Path("a.png"), 2),)),
    ):
        assert control_from_json(own.to_json(), path_in) == own
    good = unit().to_json()
    for name in ("model", "preprocessor", "weight", "start", "fill", "reach"):
        for wrong in (None, True, []):
            with pytest.raises(ClipError) as caught:
                control_from_json({**good, name: wrong}, path_in)
            assert caught.value.code == "AD-H18"
    for source in (1, {}, {**good["source"], "every": "2"}):
        with pytest.raises(ClipError):
            control_from_json({**good, "source": source}, path_in)
    with pytest.raises(ClipError):
        control_from_json([], path_in)
