"""Where things go, on clips for which that is known, and beside the reader that knows the pocket world."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from support.matrix import only_at
from support.moving import as_bytes, gliding, placed, texture, with_thing

from lib_animatediff.evaluation import direction
from lib_animatediff.evaluation.direction import ASTRAY, CAMERA, HEADINGS, STILL, UNRELATED, Trajectory
from lib_animatediff.evaluation.flow import flow_of
from tools.pocket.measure import track
from tools.pocket.world import COLOURS, FRAMES, SHAPES, Scene, clip, render, scene, still

MOVING = tuple(HEADINGS)
STYLES = ("plain", "lilac")


def way(frames):
    return direction.estimate_trajectory(flow_of(frames if isinstance(frames, np.ndarray) else as_bytes(frames)))


SOME = [
    (colour, SHAPES[(number + row) % 3], heading, STYLES[(number + row) % 2])
    for number, colour in enumerate(COLOURS)
    for row, heading in enumerate(MOVING)
    if (number - row) % 4 in (0, 1)
]


@pytest.mark.parametrize(("colour", "shape", "heading", "style"), only_at(SOME, 0, 1, 3, 4, 6))
def test_flow_agrees_with_the_reader_that_knows_the_world(colour, shape, heading, style):
    frames = clip(scene(1, 0, style, [(colour, shape, heading)]))
    known, found = track(frames, heading), way(frames)
    assert found.heading == heading
    assert [name for name in (*MOVING, STILL) if found.goes(name)] == [heading]
    assert found.towards(heading) == pytest.approx(known.displacement, abs=1.5)
    assert found.along == known.monotone == 1


@pytest.mark.parametrize("towards", MOVING)
def test_the_way_counts_and_not_what_the_sprite_looks_like(towards):
    across, down = (1.5 * part for part in HEADINGS[towards])
    frames = placed(Scene("blue", "disc", "right", "plain", 32 - 8 * across, 32 - 8 * down, 0.0), across, down)
    known, found = track(frames, towards), way(frames)
    assert found.goes(towards)
    assert found.towards(towards) == pytest.approx(known.displacement, abs=1.5)


def test_a_way_aslant_is_measured_on_both_axes():
    found = way(placed(Scene("red", "disc", "right", "plain", 20.0, 25.0, 0.0), 1.5, 0.75))
    assert (found.across, found.down) == (pytest.approx(22.5, abs=1.5), pytest.approx(11.25, abs=1.5))
    assert found.goes("right")


@pytest.mark.parametrize("style", STYLES)
def test_a_sprite_that_stands_is_still(style):
    found = way(clip(scene(2, 0, style, [("green", "cross", "still")])))
    assert found.heading == STILL
    assert found.goes(STILL)
    assert not any(found.goes(name) for name in MOVING)


@pytest.mark.parametrize("seed", range(3))
def test_unrelated_stills_go_nowhere_and_do_not_stand(seed):
    drawn = [still(scene(seed, number, concepts=[("red", "disc", "right")]), number % 16) for number in range(16)]
    found = way(torch.stack(drawn))  # each with its sprite elsewhere: what a batch without motion shows
    assert found.heading in (UNRELATED, ASTRAY)
    assert not any(found.goes(name) for name in (*MOVING, STILL))


def test_a_clip_played_backwards_goes_the_other_way():
    found = way(clip(scene(3, 0, concepts=[("yellow", "square", "left")])).flip(0))
    assert found.goes("right")
    assert found.towards("left") < -20


def test_a_clip_that_returns_does_not_go_and_one_that_swings_is_astray():
    forth = clip(scene(4, 0, concepts=[("yellow", "square", "up")]))[::2]
    found = way(torch.cat([forth, forth.flip(0)]))
    assert found.heading == STILL
    assert not any(found.goes(name) for name in MOVING)
    forth = clip(scene(4, 0, concepts=[("yellow", "square", "right")]))[::3]
    assert way(torch.cat([forth, forth.flip(0), forth[:4]])).heading == ASTRAY


def test_a_jump_between_frames_that_stand_is_a_way():
    frames = clip(scene(5, 0, concepts=[("red", "disc", "down")]))
    assert way(frames[[0, 0, 0, 4, 4, 4, 8, 8, 8, 12, 12, 12]]).goes("down")


def test_trembling_between_jumps_does_not_hide_where_they_go():
    jumps = [8.0 * (k // 4) for k in range(FRAMES)]  # as Text2Video-Zero's, by whole cells of the latents
    trembling = [0.3 * (-1) ** k for k in range(FRAMES)]
    places = [(12 + jump + shake, 32.0) for jump, shake in zip(jumps, trembling, strict=True)]
    found = way(render([Scene("red", "disc", "left", "plain", 0.0, 0.0, 0.0)] * FRAMES, places))
    assert found.goes("right")
    assert found.across == pytest.approx(places[-1][0] - places[0][0], abs=1.5)


def test_a_picture_that_shifts_as_a_whole_is_no_thing_that_moves():
    found = way(gliding(-2, -2))
    assert found.heading == CAMERA
    assert found.camera == (pytest.approx(-14, abs=1), pytest.approx(-14, abs=1))
    assert found.length < 2
    assert not any(found.goes(name) for name in (*MOVING, STILL))


def test_a_thing_moves_before_a_ground_that_stands_and_where_the_camera_follows_it():
    standing, followed = way(with_thing(gliding(0, 0), 3, 0)), way(with_thing(gliding(-3, 0), 0, 0))
    for found in (standing, followed):
        assert found.goes("right")
        assert found.across == pytest.approx(21, abs=2)
    assert math.hypot(*standing.camera) < 0.5


def test_a_frozen_frame_stands_whatever_it_shows_and_unrelated_textures_are_unrelated():
    assert way(np.repeat(texture(0, 96, 128)[None], 8, axis=0)).heading == STILL
    assert way(np.full((8, 64, 64, 3), 200, np.uint8)).heading == STILL
    assert way(np.stack([texture(seed, 96, 96) for seed in range(8)])).heading == UNRELATED


GOOD = {"across": 20.0, "down": 0.0, "along": 1.0, "straight": 1.0, "coherence": 1.0, "camera": (0, 0), "far": 3.2}


@pytest.mark.parametrize(
    ("degrees", "right"), [(0, True), (44, True), (46, False), (-44, True), (-46, False), (90, False), (180, False)]
)
def test_within_45_degrees(degrees, right):
    angle = math.radians(degrees)
    gone = Trajectory(**(GOOD | {"across": 20 * math.cos(angle), "down": 20 * math.sin(angle)}))
    assert gone.goes("right") is right


@pytest.mark.parametrize("changes", [{"along": 0.7}, {"straight": 0.5}, {"coherence": 0.6}, {"across": 3.0}])
def test_each_demand_counts(changes):
    assert not Trajectory(**(GOOD | changes)).goes("right")
