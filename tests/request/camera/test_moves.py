"""Named moves of a camera: they look as named, have the numbers of ComfyUI-AnimateDiff-Evolved, and combine."""

from __future__ import annotations

import math

import pytest

from lib_animatediff.request.camera.drawing import SIDE, TITLE, draw_path
from lib_animatediff.request.camera.moves import MOVES, ORBIT_DISTANCE, poses_of_moves
from motion_module import ClipError
from motion_module.camera_ctrl.poses import IDENTITY


def last(text, frames=17, fps=8.0):
    return poses_of_moves(text, frames, fps)[-1]


def seen(pose, point=(0, 0, 4)):
    """Where a camera sees a point, x to the right and y down, and how far away."""
    m = pose.matrix
    x, y, z = (sum(m[4 * row + k] * point[k] for k in range(3)) + m[4 * row + 3] for row in range(3))
    return x / z, y / z, z


# What of the camera moves: its place (x right, y down, z ahead), where it looks, and which way its upper side leans.
LOOKS = {
    "static": {},
    "pan-left": {"centre": (-1, 0, 0)},
    "pan-right": {"centre": (1, 0, 0)},
    "pan-up": {"centre": (0, -1, 0)},
    "pan-down": {"centre": (0, 1, 0)},
    "zoom-in": {"centre": (0, 0, 1)},
    "zoom-out": {"centre": (0, 0, -1)},
    "tilt-left": {"ahead": (-1, 0)},
    "tilt-right": {"ahead": (1, 0)},
    "tilt-up": {"ahead": (0, -1)},
    "tilt-down": {"ahead": (0, 1)},
    "roll-clockwise": {"lean": 1},
    "roll-anticlockwise": {"lean": -1},
    "orbit-left": {"centre": (-1, 0, 1), "ahead": (1, 0)},
    "orbit-right": {"centre": (1, 0, 1), "ahead": (-1, 0)},
    "orbit-up": {"centre": (0, -1, 1), "ahead": (0, 1)},
    "orbit-down": {"centre": (0, 1, 1), "ahead": (0, -1)},
}


def signs(values):
    return tuple(0 if abs(value) < 1e-9 else math.copysign(1, value) for value in values)


@pytest.mark.parametrize("name", MOVES)
def test_a_move_looks_as_it_is_named(name):
    looks, pose = LOOKS[name], last(name)
    assert signs(pose.centre) == looks.get("centre", (0, 0, 0))
    assert signs(pose.direction(2)[:2]) == looks.get("ahead", (0, 0))
    assert signs([-pose.direction(1)[0]])[0] == looks.get("lean", 0)  # the camera's upper side leans to the right
    opposite = last(f"{name} -1")
    if "orbit" not in name:
        assert opposite.centre == pytest.approx([-value for value in pose.centre])
    assert signs(opposite.direction(2)[:2]) == signs([-value for value in pose.direction(2)[:2]])


def test_an_orbit_keeps_what_is_straight_ahead_and_its_distance():
    for name in ("orbit-left", "orbit-up", "orbit-right 0.3", "orbit-down 2"):
        assert seen(last(name), (0, 0, ORBIT_DISTANCE)) == pytest.approx((0, 0, ORBIT_DISTANCE))


def test_the_numbers_are_those_of_the_moves_that_users_know():
    assert poses_of_moves("pan-left", 16, 8)[1].matrix[3] == pytest.approx(0.09375)
    assert poses_of_moves("zoom-in", 16, 8)[1].matrix[11] == pytest.approx(-0.1875)
    turned = poses_of_moves("tilt-left", 16, 8)
    assert turned[1].matrix[0] == pytest.approx(0.997859, abs=1e-6)
    assert turned[1].matrix[2] == pytest.approx(0.065403, abs=1e-6)
    assert turned[15].matrix[0] == pytest.approx(0.555570, abs=1e-6)
    assert turned[15].matrix[2] == pytest.approx(0.831470, abs=1e-6)
    text = "tilt-down 0.4, tilt-left -0.8, roll-anticlockwise 0.2, pan-left 0.8, zoom-in 0.8"
    wanted = (0.908541, -0.186346, -0.373936, 0.6, 0.095492, 0.963950, -0.248359, 0, 0.406737, 0.189937, 0.893582, -1.2)
    assert poses_of_moves(text, 16, 8)[8].matrix == pytest.approx(wanted, abs=1e-6)
    assert (turned[0].fx, turned[0].fy, turned[0].cx) == (0.474812461, 0.844111024, 0.5)


def test_speeds_in_a_second_go_as_far_at_any_rate():
    assert last("pan-right 0.5/s", 17, 8).centre == pytest.approx((1.5, 0, 0))
    assert last("pan-right 0.5/s", 33, 16).centre == pytest.approx((1.5, 0, 0))
    assert last("pan-right 0.5", 33, 16).centre == pytest.approx((1.5, 0, 0))


def test_easings_change_the_way_and_not_its_end():
    paths = {
        name: poses_of_moves(f"pan-right {name}", 17, 8) for name in ("linear", "ease-in", "ease-out", "ease-in-out")
    }
    places = {name: [pose.centre[0] for pose in path] for name, path in paths.items()}
    assert all(path[-1] == pytest.approx(1.5) for path in places.values())
    assert places["ease-in"][4] < places["linear"][4] < places["ease-out"][4]
    assert places["ease-in-out"][4] < places["linear"][4]
    assert places["ease-in-out"][12] > places["linear"][12]
    assert all(path == sorted(path) for path in places.values())


def test_a_part_goes_on_in_the_cameras_own_axes_from_where_the_one_before_ended():
    path = poses_of_moves("tilt-right 1.5; 8: zoom-in 1; 12: static", 17, 8)
    assert path[8].direction(2) == pytest.approx((math.sin(math.pi / 4), 0, math.cos(math.pi / 4)))
    gone = 3 * 4 / 16
    assert path[12].centre == pytest.approx((gone * math.sin(math.pi / 4), 0, gone * math.cos(math.pi / 4)))
    assert path[9].centre != path[8].centre
    assert path[16].matrix == pytest.approx(path[12].matrix)


def test_nothing_moves_before_the_first_part():
    path = poses_of_moves("50%: pan-left", 9, 8)
    assert [pose.matrix == IDENTITY for pose in path] == [True] * 5 + [False] * 4
    assert len(poses_of_moves("0: pan-left; -1: static", 9, 8)) == 9
    assert len(poses_of_moves("pan-left", 1, 8)) == 1


WRONG = {
    "pan-left " * 2000: "AD-Q84",
    " ; ": "AD-Q85",
    "0: pan-left; 0: zoom-in": "AD-Q86",
    "8: pan-left; 4: zoom-in": "AD-Q86",
    "pan-left; zoom-in": "AD-Q87",
    "pan-lefd": "AD-Q88",
    "zoom": "AD-Q88",
    "pan-left 1 bounce": "AD-Q89",
    "pan-left 11": "AD-Q90",
    "pan-left nan": "AD-Q90",
    "40: pan-left": "AD-Q91",
    "pan-left fast": "AD-Q92",
    "pan-left 1 2": "AD-Q92",
    "pan-left,": "AD-Q92",
    "16:9 pan-left: 3": "AD-Q92",
}


@pytest.mark.parametrize("text", WRONG, ids=lambda text: text[:20])
def test_what_is_no_move_is_refused_in_a_sentence(text):
    with pytest.raises(ClipError) as caught:
        poses_of_moves(text, 16, 8)
    assert caught.value.code == WRONG[text]
    assert len(str(caught.value)) < 500


def test_a_misspelled_move_names_the_one_that_was_meant():
    with pytest.raises(ClipError, match=r"Did you mean pan-left\?"):
        poses_of_moves("pan-lefd", 16, 8)


# --------------------------------------------------------------------------------------------------------------------
# the drawing


def test_every_move_has_a_drawing_of_its_own_inside_its_panels():
    drawings = {name: draw_path(poses_of_moves(name, 16, 8)) for name in MOVES}
    assert len({drawing.svg() for drawing in drawings.values()}) == len(MOVES)
    for drawing in drawings.values():
        points = [point for stroke in drawing.strokes for point in stroke.points]
        assert all(0 <= x <= 3 * SIDE and TITLE <= y <= TITLE + SIDE for x, y in points)


def test_the_path_from_above_leads_where_the_camera_goes():
    for name, across, up in (("pan-left", -1, 0), ("pan-right", 1, 0), ("zoom-in", 0, 1), ("zoom-out", 0, -1)):
        drawing = draw_path(poses_of_moves(name, 16, 8))
        (path,) = (s for s in drawing.strokes if len(s.points) == 16 and max(s.points)[0] < SIDE)
        (x0, y0), (x1, y1) = path.points[0], path.points[-1]
        assert signs((round(x1 - x0, 6), round(y0 - y1, 6))) == (across, up)


def test_a_drawing_is_written_as_svg_and_as_an_image(tmp_path):
    from PIL import Image

    drawing = draw_path(poses_of_moves("orbit-left", 16, 8))
    drawing.write(tmp_path / "path.svg")
    drawing.write(tmp_path / "path.png")
    assert (tmp_path / "path.svg").read_text().startswith("<svg xmlns=")
    image = Image.open(tmp_path / "path.png")
    assert image.size == (3 * SIDE, SIDE + TITLE)
    assert len(image.getcolors(10000)) > 5
