"""What is measured on the world's own clips is what the world says."""

import pytest
import torch
from support.matrix import only_at

from tools.village.board import UNITS
from tools.village.scene import CAMERA_MOVES, CLOSED, CONCEPTS, HEADINGS, TRAVEL, Camera, path, scene
from tools.village.words import MOTIONS
from tools.village_model.layers import ways
from tools.village_model.measure import Track, nearest_motion
from tools.village_model.pictures import frames
from tools.village_model.probe import Reading

SCENES = [scene(5, number, CONCEPTS, motion=motion) for motion in MOTIONS for number in range(4)]


def middles(shown):
    return torch.tensor(path(shown)) / UNITS


@pytest.mark.parametrize("shown", SCENES, ids=lambda each: each.motion)
def test_a_true_path_is_its_own_motion(shown):
    assert nearest_motion(middles(shown)) == shown.motion


def test_a_path_with_noise_is_still_its_own_motion():
    noise = 0.01 * torch.randn(16, 2, generator=torch.Generator().manual_seed(1))
    found = [nearest_motion(middles(each) + noise) == each.motion for each in SCENES]
    assert sum(found) >= 0.9 * len(found)


def test_way_and_steps_along_a_heading():
    shown = next(each for each in SCENES if each.motion in HEADINGS)
    there = Track([], middles(shown), shown.motion, 0.0, 0.0)
    assert there.displacement(shown.motion) == pytest.approx(TRAVEL / UNITS, rel=1e-3)
    assert there.monotone(shown.motion) == 1
    back = Track([], middles(shown).flip(0), shown.motion, 0.0, 0.0)
    assert back.displacement(shown.motion) == pytest.approx(-TRAVEL / UNITS, rel=1e-3)
    assert back.monotone(shown.motion) == 0


def judge_of(shown):
    """A judge that knows where the subject is."""
    return lambda pictures: [Reading({}, 1.0, x, y) for x, y in middles(shown).tolist()]


@pytest.mark.parametrize("move", only_at([move for move in CAMERA_MOVES if move != "none"], 0))
def test_near_layers_move_further_than_far_ones_under_a_camera(move):
    found = []
    for number in range(3):
        moving = scene(2, number, CONCEPTS, Camera(move), motion="standing", time="day", weather="clear")
        standing = scene(2, number, CONCEPTS, motion="standing", time="day", weather="clear")
        way, none = (ways(judge_of(each), frames(each), move) for each in (moving, standing))
        assert abs(none.near) < 0.5
        assert abs(none.far) < 0.5
        found.append(way)
    near, far = (sum(getattr(each, name) for each in found) for name in ("near", "far"))
    assert near > 1.5 * far > 0


def test_the_motions_that_close_are_known():
    assert {each.motion for each in SCENES if each.motion in CLOSED} == set(CLOSED)
