"""The pocket model's CameraCtrl: the exact camera, its lessons, and what its measurement tells."""

from __future__ import annotations

import math

import pytest
import torch

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.training import MemorySource
from lib_animatediff.training.clips import Cut
from motion_module.camera_ctrl.load import read_camera_ctrl
from tools.pocket import camera, moves, plane
from tools.pocket.measure import middle, read
from tools.pocket.report import pipeline_of
from tools.pocket.world import FRAMES, MARGIN_BEHIND, SIZE, TRAINED, Scene, caption, clip, path

from .conftest import RECIPE

STILL = Scene("red", "square", "still", "plain", 26.0, 36.0, 0.0)
MOVING = Scene("green", "disc", "right", "plain", 16.0, 30.0, 28.0)


@pytest.mark.parametrize("scene", [STILL, MOVING])
def test_a_camera_that_stands_sees_the_world_as_it_is(scene):
    poses = plane.cameras("static")
    assert (plane.filmed(scene, poses) - clip(scene)).abs().max() <= 1e-4
    places = plane.image_of(poses, path(scene))
    assert [place[:2] for place in places] == [pytest.approx(place) for place in path(scene)]
    assert {round(scale, 6) for *_, scale in places} == {1.0}


def test_a_pan_moves_the_picture_by_its_focal_length_and_a_zoom_scales_it_about_the_middle():
    focal = 0.474812461 * SIZE * 16 / 9  # of the source, resized to cover the square
    x, y, scale = plane.image_of(plane.cameras("pan-left 0.8"), path(STILL))[-1]
    assert (x, y, scale) == pytest.approx((26 + focal * 1.5 * 0.8 * 15 / 16 / 3, 36, 1), rel=1e-6)
    x, y, scale = plane.image_of(plane.cameras("zoom-in 0.3"), path(STILL))[-1]
    assert scale == pytest.approx(3 / (3 - 3 * 0.3 * 15 / 16))
    assert (x, y) == pytest.approx((32 - 6 * scale, 32 + 4 * scale))
    x, _, _ = plane.image_of(plane.cameras("tilt-left 0.35"), [(32.0, 32.0)] * FRAMES)[-1]
    assert x == pytest.approx(32 + focal * math.tan(math.pi / 3 * 0.35 * 15 / 16))


@pytest.mark.parametrize("said", ["pan-up 0.6", "tilt-right 0.3", "zoom-in 0.2, pan-left 0.3", "roll-clockwise"])
@pytest.mark.parametrize("scene", [STILL, MOVING])
def test_the_picture_has_the_sprite_where_the_camera_sees_it(scene, said):
    """Painting goes from pixels to the plane, and `image_of` from the plane to pixels."""
    poses = plane.cameras(said)
    frames, places = plane.filmed(scene, poses), plane.image_of(poses, path(scene))
    for frame in (5, FRAMES - 1):
        x, y, scale = places[frame]
        if scene is STILL:  # whose nose is in the middle
            assert math.dist(middle(frames[frame], "plain"), (x, y)) < 0.6
        elif scale < 1.1 and "roll" not in said:
            found = read(frames[frame])
            assert found.concept == scene.concept
            assert math.dist((found.x, found.y), (x, y)) < 0.9


def test_lessons_are_clips_of_the_world_under_cameras_that_keep_the_sprite_in_the_picture():
    made = [camera.lesson(4, number) for number in range(40)]
    assert made[3] == camera.lesson(4, 3)
    assert len({each.moves for each in made}) > 30
    words = [word for each in made for word in each.moves.split() if not word[0].isdigit()]
    assert set(words) == {"static", *(f"{kind}-{side}" for kind in camera.SPEEDS for side in camera.SIDES)}
    for each in made:
        assert each.scene.concept in TRAINED
        for x, y, scale in plane.image_of(each.poses, path(each.scene)):
            assert min(x, y, SIZE - x, SIZE - y) >= MARGIN_BEHIND * scale - 1e-6
    standing = sum(each.scene.heading == "still" for each in made)
    assert 14 <= standing <= 34


@pytest.mark.matrix
def test_a_lesson_has_its_latents_its_caption_and_its_camera():
    vae = pipeline_of(POCKET.folder / POCKET.checkpoint).vae
    source = MemorySource(camera.lessons(vae, 1, seed=4), latents=True)
    shown, read_clip = camera.lesson(4, 0), source.read(0, Cut(FRAMES, 1))
    assert read_clip.mean.shape == (FRAMES, 4, SIZE // 8, SIZE // 8)
    assert read_clip.caption == caption(shown.scene.concept)
    assert list(read_clip.poses) == shown.poses


def test_the_exact_camera_is_named_right_and_what_stands_is_not():
    def exact(concept, seed, said):
        return plane.filmed(Scene(*concept, "plain", 32.0, 32.0, 0.0), plane.cameras(said))

    found = moves.measure_moves(exact, clips=1)
    assert [each.move for each in found] == list(moves.MOVES)
    for each in found:
        assert each.is_right, each
        assert each.away < 1
    still = moves.measure_moves(lambda concept, seed, said: exact(concept, seed, "static"), clips=1)
    assert [each.move for each in still if each.is_right] == ["static"]
    assert not moves.seen("pan-left 0.8", torch.full((FRAMES, 3, SIZE, SIZE), 0.96)).is_right
    assert not moves.Seen("pan", (20.0, 0.0), (20.0, 12.0)).is_right  # 31 degrees
    assert moves.Seen("pan", (20.0, 0.0), (8.0, 4.5)).is_right


def test_what_was_measured_is_kept_and_counted(tmp_path):
    def still(concept, seed, said):
        return plane.filmed(Scene(*concept, "plain", 32.0, 32.0, 0.0), plane.cameras("static"))

    kept = tmp_path / "cameras.json"
    moves.measure_moves(still, 1, kept)
    again = moves.measure_moves(None, 1, kept)
    lines = list(moves.table(again))
    assert any(line.startswith("| pan-left 0.8 | 20.3 | 0.0 | 20.3 | 0 of 1") for line in lines)
    assert lines[-1].startswith("| static | 0.0 | 0.0 | 0.0 | 1 of 1")


def test_it_is_trained_in_the_folder_of_a_build(built):
    camera.train_camera(RECIPE, built)
    file = read_camera_ctrl(built / camera.RESULT)
    assert (file.layout.widths, file.layout.trained_length) == ((64,) * 4, FRAMES)
    assert file.path.stat().st_size <= 6e6
