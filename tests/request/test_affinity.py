"""The affinities of PIA's frames, against the lists that its own code makes for 16 frames."""

from __future__ import annotations

import pytest

from lib_animatediff import ClipError
from lib_animatediff.request.control.affinity import AFFINITIES, affinity, as_weights
from lib_animatediff.request.motion_scale import parse_frames

OFFICIAL = {
    "small": "1 .9 .85 .85 .85 .8 .8 .8 .8 .8 .8 .8 .8 .8 .8 .8",
    "medium": "1 .8 .8 .8 .79 .78 .75 .75 .75 .75 .75 .75 .75 .75 .75 .75",
    "large": "1 .8 .7 .7 .7 .7 .7 .7 .7 .7 .6 .5 .5 .5 .5 .5",
    "small-loop": "1 .9 .85 .85 .85 .8 .8 .8 .8 .8 .8 .8 .85 .85 .9 1",
    "medium-loop": "1 .8 .8 .8 .79 .78 .75 .75 .75 .75 .75 .78 .79 .8 .8 1",
    "large-loop": "1 .8 .7 .7 .7 .7 .6 .5 .5 .6 .7 .7 .7 .7 .8 1",
    "small-style": "0.5 .4 .4 .4 .35 .3 .3 .3 .3 .3 .3 .3 .3 .3 .3 .3",
    "medium-style": ".5 .4 .4 .4 .35 .35 .3 .25 .2 .2 .2 .2 .2 .2 .2 .2",
    "large-style": ".5 .2 .2 .2 .2 .2 .2 .2 .2 .2 .2 .2 .2 .2 .2 .2",
}


@pytest.mark.parametrize("name", AFFINITIES)
def test_sixteen_frames_have_the_official_lists(name):
    assert affinity(name, 16) == pytest.approx([float(value) for value in OFFICIAL[name].split()])
    assert affinity(name, 5) == pytest.approx(affinity(name, 16)[:5]) or name.endswith("-loop")


def test_the_distance_from_the_frame_of_the_image_counts():
    wanted = [0.7, 0.7, 0.7, 0.7, 0.8, 1, 0.8, *[0.7] * 8, 0.6]
    assert affinity("large", 16, 5) == pytest.approx(wanted)


@pytest.mark.parametrize("frames", [2, 8, 24, 100])
def test_loops_of_any_length_return_to_the_image_and_long_clips_end_as_those_of_sixteen(frames):
    for name in ("small-loop", "medium-loop", "large-loop"):
        values = affinity(name, frames)
        assert values[0] == values[-1] == 1
        if frames > 2:
            assert min(values) < 0.9
            assert sum(value == 1 for value in values) == 2
    if frames > 16:
        assert affinity("large", frames)[-1] == pytest.approx(0.5)
        assert affinity("large", frames)[frames // 2] == pytest.approx(0.7)


def test_they_are_the_weights_of_a_unit_and_a_wrong_name_is_refused():
    assert parse_frames("w", as_weights(affinity("medium", 16)), 16, 2.0) == pytest.approx(affinity("medium", 16))
    with pytest.raises(ClipError) as caught:
        affinity("huge", 16)
    assert caught.value.code == "AD-Q47"
