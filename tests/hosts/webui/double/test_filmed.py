"""Cameras and AnimateLCM-I2V in both tabs: poses and images that reach the models, what is said and refused."""

from __future__ import annotations

import re

import pytest
import torch
from hosts.webui.double.test_guides import field_of
from safetensors.torch import save_file
from support.camera_ctrl import random_state
from support.image_encoder import i2v_state, literal_features
from support.matrix import every_once, only_at
from support.unchanged import Portrait
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.guided import (
    BEGUN,
    CAMERA,
    FILMED,
    FRAMES,
    I2V,
    MOVES,
    PIA,
    POSES,
    RGB,
    write_filmed,
    write_guides,
)
from support.webui_double.images_in import IMG2IMG, frames_of
from support.webui_double.sampling import latent_of

from lib_animatediff.engine.components.image_encoder import ImageEncoderComponent
from lib_animatediff.request.camera.moves import poses_of_moves
from lib_animatediff.request.settings import from_infotext
from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash
from motion_module.camera_ctrl.network import CameraCtrl
from motion_module.camera_ctrl.poses import write_poses
from motion_module.camera_ctrl.rays import pluecker_rays

FPS = 8
PIXELS = 8 * SIDE
PLAIN = {**CLIP, "frames": FRAMES}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A file of each kind, written once."""
    folder = tmp_path_factory.mktemp("guides")
    write_filmed(folder)
    write_guides(folder)
    save_file(random_state((64,) * 4), folder / "other_base_camera.safetensors")
    return folder


@pytest.fixture
def filmed(webui, images, files):
    """The double with an image, a file of each kind, and a file of poses."""
    for file in files.iterdir():
        (webui.models_folder / file.name).symlink_to(file)
    path = webui.outputs.parent / "in" / POSES
    path.write_text(write_poses(poses_of_moves("orbit-left 2", 9, FPS)))
    (path.parent / "none_at_all.txt").write_text("a link alone")
    return webui


@pytest.fixture
def rays(monkeypatch):
    """The rays of each window that the camera's encoder is given, ``f 6 h w``."""
    seen, former = [], CameraCtrl.encode

    def encode(self, given, views):
        seen.append(given.clone())
        return former(self, given, views)

    monkeypatch.setattr(CameraCtrl, "encode", encode)
    return seen


@pytest.fixture
def features(monkeypatch):
    """For each call what is added to the rows of each resolution."""
    seen, former = [], ImageEncoderComponent.added_to

    def added_to(self, x, level, *given):
        out = former(self, x, level, *given)
        seen.append((level, out - x))
        return out

    monkeypatch.setattr(ImageEncoderComponent, "added_to", added_to)
    return seen


def of_path(poses, window, side=PIXELS):
    return pluecker_rays([poses[frame] for frame in window], (side, side))


def assert_same(found, wanted):
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("fields", only_at([{}, IMG2IMG], 0), ids=["txt2img", "img2img"])
def test_each_frame_has_the_ray_of_its_pose(filmed, rays, fields):
    made = frames_of(filmed, FILMED, **fields)
    assert_same(rays, [of_path(poses_of_moves(MOVES, FRAMES, FPS), range(FRAMES))])
    plain = frames_of(filmed, PLAIN, **fields)
    assert not torch.allclose(made, plain, atol=1e-3)
    assert torch.equal(frames_of(filmed, {**FILMED, "camera_strength": 0}, **fields), plain)


def test_a_window_begins_with_the_pose_of_its_first_frame(filmed, rays):
    asked = {**FILMED, "frames": 6, "context_kind": "static", "context_length": 3, "overlap": 0}
    frames_of(filmed, asked)
    poses = poses_of_moves(MOVES, 6, FPS)
    assert_same(rays, [of_path(poses, range(3)), of_path(poses, range(3, 6))])


def test_a_file_of_poses_of_which_each_second_is_taken(filmed, rays):
    frames_of(filmed, {**FILMED, "camera": f"in/{POSES}", "camera_every": 2})
    poses = poses_of_moves("orbit-left 2", 9, FPS)
    (found,) = rays
    torch.testing.assert_close(found, of_path(poses[::2], range(FRAMES)), rtol=1e-4, atol=1e-5)


def test_strength_per_frame_and_part_of_the_sampling(filmed, rays):
    shared.steps = 2
    early, late = (frames_of(filmed, {**FILMED, part: 0.5}) for part in ("camera_end", "camera_start"))
    assert len(rays) == 2
    assert not torch.equal(early, late)
    shared.steps = 1
    assert not torch.equal(*(frames_of(filmed, {**FILMED, "camera_strength": text}) for text in ("1", "0: 1, 1: 0.5")))


def test_both_passes_of_hires_fix_have_the_camera_in_their_size(filmed, rays):
    frames_of(filmed, FILMED, enable_hr=True, hr_upscale_to_x=128, hr_upscale_to_y=128)
    poses = poses_of_moves(MOVES, FRAMES, FPS)
    assert_same(rays, [of_path(poses, range(FRAMES)), of_path(poses, range(FRAMES), 2 * PIXELS)])


@pytest.mark.parametrize(
    "fields",
    only_at([{"n_iter": 2}, {"batch_size": 2}, {"prompt": "a cat AND a dog"}], 0),
    ids=["n_iter", "a batch", "AND"],
)
def test_every_clip_and_stream_has_camera_and_image(filmed, rays, features, fields):
    frames_of(filmed, {**FILMED, **BEGUN, "freeinit_enable": True, "freeinit_iters": 2}, **fields)
    wanted = of_path(poses_of_moves(MOVES, FRAMES, FPS), range(FRAMES))
    assert_same(rays, [wanted] * len(rays))
    assert len(rays) == fields.get("n_iter", 1)
    assert features
    assert all(row.any() for _, rows in features for row in rows)


@pytest.mark.parametrize("fields", only_at([{}, IMG2IMG], 0), ids=["txt2img", "img2img"])
def test_each_row_has_the_literal_features_of_the_image(filmed, images, features, fields):
    frames_of(filmed, {**BEGUN, "i2v_drift": 0.4, "i2v_strength": "1, 0.5"}, **fields)
    image = torch.full((4, SIDE, SIDE), latent_of(images["a"]))
    wanted = literal_features(i2v_state(), image, FRAMES, 0.4)
    scales = torch.tensor([1, 0.5, 0.5, 0.5]).view(-1, 1, 1, 1)
    assert [level for level, _ in features[:4]] == [0, 1, 2, 3]
    for level, rows in features[:4]:
        expected = (scales * wanted[level]).repeat(len(rows) // FRAMES, 1, 1, 1)
        torch.testing.assert_close(rows, expected, rtol=1e-3, atol=1e-3)


def test_a_hires_pass_has_the_image_in_its_size(filmed, features):
    frames_of(filmed, BEGUN, enable_hr=True, hr_upscale_to_x=128, hr_upscale_to_y=128)
    assert {rows.shape[-1] for level, rows in features if level == 0} == {SIDE, 2 * SIDE}


def test_the_choice_and_what_has_no_effect_are_said(filmed):
    comments = filmed.paint({**BEGUN, "pin_strength": 0.5, "pia_motion": "large"}).comments
    assert f"image_method is i2v: the image goes to {I2V}, since it is given as the motion module" in comments
    assert "pin_strength has no effect, since the images are not pinned." in comments
    assert "pia_motion has no effect, since the motion module is no PIA model." in comments
    comments = filmed.paint({**PLAIN, "image": "in/a.png", "i2v_drift": 0.4, "camera_strength": 0.5}).comments
    assert "i2v_drift has no effect, since the motion module is no AnimateLCM-I2V model." in comments
    assert "camera_strength has no effect, since there is no camera." in comments
    comments = filmed.paint({**FILMED, **BEGUN, "camera_every": 2}).comments
    assert "camera_every has no effect, since the camera has named moves." in comments
    assert f"{CAMERA} was trained with the v3 motion module, and this one is of kind i2v." in comments


@pytest.mark.parametrize("clip", [{**FILMED, "camera": f"in/{POSES}", "camera_model": "CameraCtrl [camera]"}, BEGUN])
def test_the_same_clip_again_from_infotext_and_recipe(filmed, clip):
    frames = frames_of(filmed, {**clip, "format": ["GIF"]})
    (made,) = filmed.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    (unit,) = recipe.data["controls"]
    if "camera" in clip:
        assert f"camera_model: {CAMERA}" in recipe.infotext
        assert re.search(rf'Camera: "?{CAMERA}, {POSES}, weight 1', recipe.infotext)
        poses = file_hash(filmed.outputs.parent / "in" / POSES)
        assert f"{POSES}: {poses[:10]}" in recipe.infotext
        assert (unit["camera"]["name"], unit["camera"]["sha256"]) == (POSES, poses)
    else:
        assert f"Guided frames: {I2V} with " in recipe.infotext.replace('"', "")
        assert unit["keys"][0]["sha256"] == file_hash(filmed.outputs.parent / "in" / "a.png")
    assert unit["model"]["sha256"] == file_hash(filmed.models_folder / unit["model"]["name"])
    again = frames_of(filmed, {**from_infotext(field_of(recipe.infotext)), "enable": True})
    assert torch.equal(frames, again)


@pytest.mark.parametrize(("clip", "fields"), every_once([FILMED, BEGUN], [{}, IMG2IMG]))
def test_request_and_model_are_what_they_were(filmed, checkpoint, clip, fields):
    picture, before = filmed.picture(), Portrait(checkpoint)
    filmed.paint(clip, **fields)
    before.assert_unchanged()

    def fail(_p):
        raise RuntimeError("in sampling")

    shared.during_sampling = fail
    with pytest.raises(RuntimeError, match="in sampling"):
        filmed.paint(clip, **fields)
    shared.during_sampling = None
    before.assert_unchanged()
    assert filmed.picture() == picture


WRONG = {
    "no model": ({**FILMED, "camera_model": ""}, "AD-QA1"),
    "a missing model": ({**FILMED, "camera_model": "none.safetensors"}, "AD-W61"),
    "an encoder as a camera": ({**FILMED, "camera_model": RGB}, "AD-Q75"),
    "a motion module as a camera": ({**FILMED, "camera_model": "mm.safetensors"}, "AD-Q75"),
    "an unknown move": ({**FILMED, "camera": "fly-left 1"}, "AD-Q88"),
    "no moves": ({**FILMED, "camera": " ; "}, "AD-Q85"),
    "an unknown easing": ({**FILMED, "camera": "pan-left 1 slowly"}, "AD-Q89"),
    "a speed of 99": ({**FILMED, "camera": "pan-left 99"}, "AD-Q90"),
    "no speed": ({**FILMED, "camera": "pan-left 1.2.3"}, "AD-Q92"),
    "parts out of their order": ({**FILMED, "camera": "2: pan-left; 1: static"}, "AD-Q86"),
    "a part without its frame": ({**FILMED, "camera": "pan-left; static"}, "AD-Q87"),
    "poses that are none": ({**FILMED, "camera": "in/none_at_all.txt"}, "AD-Q72"),
    "a camera of another base": ({**FILMED, "camera_model": "other_base_camera.safetensors"}, "AD-Q82"),
    "a move at frame 40 of 4": ({**FILMED, "camera": "pan-left; 40: static"}, "AD-Q91"),
    "poses elsewhere": ({**FILMED, "camera": "/etc/path.txt"}, "AD-W32"),
    "missing poses": ({**FILMED, "camera": "in/none.txt"}, "AD-Q95"),
    "a start behind the end": ({**FILMED, "camera_start": 0.8, "camera_end": 0.5}, "AD-Q94"),
    "a strength of 3": ({**FILMED, "camera_strength": 3}, "AD-C28"),
    "a camera without a motion module": ({**FILMED, "model": "Text2Video-Zero"}, "AD-C14"),
    "I2V without an image": ({**BEGUN, "image": ""}, "AD-QC4"),
    "I2V with two images": ({**BEGUN, "last_image": "in/b.png"}, "AD-QC4"),
    "I2V at another frame": ({**BEGUN, "image": "", "key_images": "2: in/a.png"}, "AD-QC4"),
    "I2V and pins": ({**BEGUN, "image_method": "pins"}, "AD-QC5"),
    "I2V with an encoder for images": ({**BEGUN, "sparse_ctrl": RGB}, "AD-QC5"),
    "I2V without its file": ({**PLAIN, "image": "in/a.png", "image_method": "i2v"}, "AD-QC6"),
    "PIA as I2V": ({**BEGUN, "model": PIA, "image_method": "i2v"}, "AD-QC6"),
    "much drift": ({**BEGUN, "i2v_drift": 9}, "AD-C09"),
}


@pytest.mark.parametrize("what", only_at(WRONG, 0, 2, 6, 13, 16))
def test_what_cannot_be_is_refused_before_sampling(filmed, checkpoint, what):
    clip, code = WRONG[what]
    before = Portrait(checkpoint)
    shared.samplings.clear()
    with pytest.raises(Exception, match=rf"\[{code}\]") as refused:
        filmed.paint(clip, **(IMG2IMG if len(what) % 2 else {}))
    assert refused.value.status_code == 422
    assert not shared.samplings
    before.assert_unchanged()


def test_lists_have_badges_and_fill_in_names(filmed):
    fields = filmed.module("ui.fields")
    assert fields._camera_names() == [f"{CAMERA} [camera]", "other_base_camera.safetensors [camera]"]
    assert fields._this_camera(f"{CAMERA} [camera]", "old.safetensors")[0] == CAMERA
    assert fields._with_move("pan-left", "zoom-in 0.3")[0] == "zoom-in 0.3, pan-left 0.5"
    assert fields._with_move("pan-left", "in/path.txt")[0] == "pan-left 0.5"
    assert f"{I2V} [i2v, SD 1.5]" in filmed.module("catalog.models").choices()
    assert "begins with one image" in filmed.module("ui.advice").advice(I2V)


def test_the_plan_states_the_memory_of_camera_and_image(filmed):
    view = filmed.module("ui.plan_view").view_plan

    def summary(clip):
        return view({"enable": True, **clip}, {}).summary

    assert "GB of it for the camera" in summary(FILMED)
    assert "GB of it for AnimateLCM-I2V" in summary(BEGUN)
    assert re.search(r"GB of it for SparseCtrl, \S+ GB of it for the camera", summary({**FILMED, "sparse_ctrl": RGB}))
    for clip in (PLAIN, {**FILMED, "camera": ""}, {**FILMED, "camera_model": "none.safetensors"}):
        assert "of it for" not in summary(clip)


def test_the_plan_draws_the_path_without_a_model(filmed):
    view = filmed.module("ui.plan_view").view_plan
    asked = {"enable": True, **PLAIN}
    assert view(asked, {}).camera == ""
    drawn = view({**asked, "camera": "pan-left"}, {}).camera
    assert "<svg" in drawn
    assert "From above" in drawn
    assert drawn != view({**asked, "camera": "pan-right"}, {}).camera
    assert view({**asked, "camera": f"in/{POSES}"}, {}).camera.count("polyline") > 9
    assert "[AD-Q95]" in view({**asked, "camera": "in/none.txt"}, {}).camera
