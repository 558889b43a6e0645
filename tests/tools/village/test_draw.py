"""What is drawn is a pure function of its scene, shows every concept, and moves as its scene says."""

import colorsys
import hashlib
import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from tools.village.board import Board
from tools.village.draw import clip, mask, still, truth
from tools.village.figure import COLOURS
from tools.village.scene import (
    CAMERA_MOVES,
    CLOSED,
    CONCEPTS,
    FRAMES,
    HEADINGS,
    TRAVEL,
    Camera,
    Scene,
    scene,
)
from tools.village.scenery import paint_scenery
from tools.village.words import MOTIONS, SCENERIES, STYLES, SUBJECTS

DIGEST = "4edebe9faccaff539f94b066a953a85be6c3769037ca731a7005601b4f98ec3e"


def colour_of(picture, cover):
    """The colour that most of a subject's vivid pixels are nearest to."""
    pixels = picture[cover > 0.99].astype(float) / 255
    pixels = pixels[np.ptp(pixels, axis=1) > 0.3]
    hues = {name: colorsys.rgb_to_hsv(*colour)[0] for name, colour in COLOURS.items()}
    found = [colorsys.rgb_to_hsv(*pixel)[0] for pixel in pixels]
    apart = np.array([[abs((hue - of + 0.5) % 1 - 0.5) for of in hues.values()] for hue in found])
    counts = np.bincount(apart.argmin(1), minlength=len(hues))
    return list(hues)[counts.argmax()], counts.max() / counts.sum()


def changes(frames):
    """Mean change of each frame from the one before it; the first one's from the last."""
    frames = frames.astype(float)
    return [np.abs(frames[f] - frames[f - 1]).mean() for f in range(len(frames))]


def centroid(cover):
    y, x = np.mgrid[: cover.shape[0], : cover.shape[1]] + 0.5
    return (x * cover).sum() / cover.sum(), (y * cover).sum() / cover.sum()


def drift(first, last, rows):
    """How far rows have moved to the right, by the shift at which two pictures agree best."""
    first, last = first[rows].astype(float), last[rows].astype(float)
    width, shifts = first.shape[1], range(-30, 31)

    def error(shift):
        here, there = slice(max(shift, 0), width + min(shift, 0)), slice(max(-shift, 0), width + min(-shift, 0))
        return np.abs(last[:, here] - first[:, there]).mean()

    return min(shifts, key=error)


def backdrop(name, camera, frames):
    board = Board.blank(len(frames), 96)
    paint_scenery(board, Scene("car", "red", "standing", name, "day", "clear", view=41, camera=camera), frames)
    return board.bytes()


def test_the_same_bytes_come_out_everywhere():
    digest = hashlib.sha256()
    for number, (subject, motion) in enumerate(itertools.product(SUBJECTS, MOTIONS)):
        camera = Camera(list(CAMERA_MOVES)[number % 3], 0.7)
        style = list(STYLES)[number // 2 % len(STYLES)]
        drawn = scene(1, number, CONCEPTS, camera, subject=subject, motion=motion, style=style)
        digest.update(still(drawn, number % FRAMES).tobytes())
    assert digest.hexdigest() == DIGEST


def test_a_scene_depends_on_its_seed_and_number_alone():
    first = [scene(3, number) for number in range(5)]
    assert [scene(3, number) for number in reversed(range(5))] == first[::-1]
    assert scene(4, 0) != first[0]


@pytest.mark.parametrize("move", CAMERA_MOVES)
def test_a_frame_drawn_alone_is_the_clips(move):
    drawn = scene(5, 2, camera=Camera(move), motion="circling", weather="snow")
    frames = clip(drawn)
    assert frames.shape == (FRAMES, 96, 96, 3)
    assert frames.dtype == np.uint8
    assert all(np.array_equal(still(drawn, frame), frames[frame]) for frame in (0, 6, 15))


@pytest.mark.parametrize("subject", SUBJECTS)
def test_every_subject_is_seen_whole_and_in_its_colour(subject):
    for number, concept in enumerate(c for c in CONCEPTS if c[0] == subject):
        drawn = scene(7, number, [concept], weather="clear")
        cover, frame = mask(drawn), number % FRAMES
        edge = np.concatenate([cover[:, 0], cover[:, -1], cover[:, :, 0], cover[:, :, -1]])
        assert edge.max() < 0.02, drawn
        assert 400 < cover[frame].sum() < 1000, drawn  # of 9,216 pixels
        wide, high = (np.ptp(np.nonzero(cover[frame].max(axis) > 0.5)[0]) + 1 for axis in (0, 1))
        assert 18 <= min(wide, high) <= max(wide, high) <= 44, drawn
        assert max(wide, high) >= 24, drawn
        found, share = colour_of(still(drawn, frame), cover[frame])
        assert found == concept[1], drawn
        assert share > 0.6, (drawn, share)


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_the_look_and_neither_place_nor_colour(style):
    for number in range(10):
        plain = scene(8, number, weather="clear")
        drawn = replace(plain, style=style)
        cover, picture = mask(drawn)[4], still(drawn, 4)
        assert np.array_equal(cover, mask(plain)[4])
        assert colour_of(picture, cover)[0] == drawn.colour
        apart = np.abs(picture.astype(float) - still(plain, 4))[cover < 0.01].mean()
        assert apart == 0 if style == "plain" else apart > 10


def test_a_heading_is_seen_in_a_still():
    """The same subject at the same place looks another way for each heading, and the mirror's for the opposite one."""
    for subject in SUBJECTS:
        at = Scene(subject, "red", "standing", "hills", "day", "clear")
        bodies = {motion: _body(replace(at, motion=motion)) for motion in (*HEADINGS, "standing")}
        for one, other in ((a, b) for a in bodies for b in bodies if a < b):
            assert np.abs(bodies[one] - bodies[other]).sum() / 3 / 255 > 60, (subject, one, other)  # pixels' worth
        assert np.abs(bodies["left"] - bodies["right"][:, ::-1]).mean() < 2


def _body(drawn):
    picture = still(drawn, 0).astype(float)
    return picture * (mask(drawn, frames=[0])[0] > 0.5)[..., None]


@pytest.mark.parametrize("heading", HEADINGS)
def test_straight_motions_take_even_steps(heading):
    for number in range(6):
        drawn = scene(9, number, CONCEPTS, motion=heading)
        places = np.array(truth(drawn))
        steps = np.diff(places, axis=0)
        assert np.allclose(steps, np.array(HEADINGS[heading]) * TRAVEL / (FRAMES - 1))
        found = np.array([centroid(each) for each in mask(drawn)])  # a body that moves shifts it a little
        assert np.allclose(found - found.mean(0), places - places.mean(0), atol=1.8)
        assert np.abs(found - places).max() < 4


def test_what_stands_stays_and_yet_its_body_moves():
    for number, subject in enumerate(SUBJECTS):
        drawn = scene(9, number, CONCEPTS, subject=subject, motion="standing", weather="clear")
        assert len(set(truth(drawn))) == 1
        found = np.array([centroid(each) for each in mask(drawn)])
        assert np.ptp(found, axis=0).max() < 2
        assert min(changes(clip(drawn))) > 0


@pytest.mark.parametrize("motion", CLOSED)
def test_closed_motions_close(motion):
    for number in range(3 * len(SUBJECTS)):
        drawn = scene(10, number, CONCEPTS, subject=list(SUBJECTS)[number % len(SUBJECTS)], motion=motion)
        seam, *others = changes(clip(drawn))
        assert 0.8 <= seam / np.median(others) <= 1.25, drawn
        places = truth(drawn)
        assert max(math.dist(places[0], each) for each in places) > 15


@pytest.mark.parametrize("weather", ["rain", "snow"])
def test_weather_closes(weather):
    drawn = scene(11, 0, motion="standing", weather=weather)
    seam, *others = changes(clip(drawn))
    assert 0.8 <= seam / np.median(others) <= 1.25
    assert seam > 1


@pytest.mark.parametrize("scenery", SCENERIES)
def test_near_layers_move_further_than_far_ones_under_a_pan(scenery):
    for move, sign in (("pan left", 1), ("pan right", -1)):
        first, half, last = backdrop(scenery, Camera(move), [0, 7.5, 15])
        near, far = (sign * drift(first, last, rows) for rows in (slice(76, 94), slice(30, 40)))
        assert near >= 15
        assert far >= 3
        assert near >= 1.5 * far
        assert abs(sign * drift(first, half, slice(76, 94)) - near / 2) <= 1
    weak = backdrop(scenery, Camera("pan left", 0.5), [0, 15])
    assert abs(drift(*weak, slice(76, 94)) - near / 2) <= 1


@pytest.mark.parametrize("scenery", SCENERIES)
def test_near_layers_grow_more_than_far_ones_under_a_zoom(scenery):
    """Left of the middle all goes to the left, right of it to the right, and more so near by."""
    first, last = backdrop(scenery, Camera("zoom in"), [0, 15])
    assert np.abs(first.astype(float) - last)[76:].mean() > 0
    camera = Camera("zoom in")
    assert camera.scale(1.0, 1) - 1 >= 1.5 * (camera.scale(0.3, 1) - 1) > 0
    assert Camera("zoom in", 0).still


def test_the_subject_goes_with_the_ground_under_a_camera():
    for move in ("pan left", "pan right", "zoom in"):
        drawn = scene(12, 1, camera=Camera(move), motion="standing", weather="clear")
        found = [centroid(each) for each in mask(drawn)]
        places = truth(drawn)
        assert math.dist(np.subtract(found[-1], found[0]), np.subtract(places[-1], places[0])) < 2
        assert mask(drawn)[-1].sum() > (1.4 if move == "zoom in" else 0.9) * mask(drawn)[0].sum()


@pytest.mark.parametrize("motion", MOTIONS)
def test_a_larger_picture_shows_the_same(motion):
    drawn = scene(13, 0, CONCEPTS, motion=motion)
    small, large = clip(drawn, frames=[3]), clip(drawn, 128, frames=[3])
    assert large.shape == (1, 128, 128, 3)
    # blocks of 3 x 3 and of 4 x 4 pixels cover the same
    blocks = [each.reshape(32, side, 32, side, 3).mean((1, 3)) for each, side in ((small, 3), (large, 4))]
    assert np.abs(blocks[0] - blocks[1]).mean() < 1.5
    assert np.allclose(np.array(truth(drawn, 128)), np.array(truth(drawn)) * 128 / 96)


def test_a_word_that_the_world_does_not_have_is_refused():
    with pytest.raises(ValueError, match="choose from red"):
        Scene("car", "pink", "left", "town", "day", "clear")
