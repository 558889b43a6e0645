"""Clips under a camera: moves, files of poses and their strengths reach the UNet, in windows and previews, too."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from support.camera_ctrl import random_state, shared_camera
from support.motion_files import random_motion_state
from support.pocket_clips import latents_of
from support.unchanged import Portrait

from lib_animatediff import AnimateDiffError, CameraUnit
from lib_animatediff.hosts.diffusers.control.camera import LoadedCamera, camera_notes
from lib_animatediff.request.camera.moves import poses_of_moves
from lib_animatediff.request.plan import add_controls, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.stored_plan import plan_from_json
from motion_module import load_motion_module
from motion_module.camera_ctrl.poses import write_poses

FRAMES, STEPS, SEED = 4, 2, 11
POCKET = (64, 64, 64, 64)
MOVES = "orbit-left 2, zoom-in 0.5/s; 2: roll-clockwise 3 ease-in"


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("camera")
    save_file(random_state(POCKET), folder / "camera.safetensors")
    save_file(random_motion_state("v3", POCKET), folder / "v3_mm.safetensors")
    (folder / "path.txt").write_text(write_poses(poses_of_moves(MOVES, FRAMES, 8)))
    (folder / "twice.txt").write_text(write_poses([p for p in poses_of_moves(MOVES, FRAMES, 8) for _ in range(2)]))
    (folder / "empty.txt").write_text("https://example.org")
    return folder


def unit(files, moves=MOVES, **options):
    return CameraUnit(files / "camera.safetensors", "" if "file" in options else moves, **options)


@pytest.fixture
def latents(pipeline, files, monkeypatch):
    """Makes a clip: a function `(*units, settings) -> latents f c h w`."""
    motion = load_motion_module(files / "v3_mm.safetensors")

    def sampled(*units, **settings):
        return latents_of(monkeypatch, pipeline, motion, units, {"frames": FRAMES, "fps": 8, **settings})

    return sampled


@torch.no_grad()
def test_moves_and_their_poses_in_a_file_make_the_same_clip_and_no_strength_that_without(pipeline, latents, files):
    before = Portrait(pipeline.unet)
    plain, moved = latents(), latents(unit(files))
    before.assert_unchanged()
    assert (moved - plain).abs().max() > 1e-2
    assert (latents(unit(files, file=files / "path.txt")) - moved).abs().max() <= 1e-4
    assert (latents(unit(files, file=files / "twice.txt", every=2)) - moved).abs().max() <= 1e-4
    assert torch.equal(latents(unit(files, weight="0")), plain)
    assert not torch.equal(latents(unit(files, end=0.5)), moved)


@torch.no_grad()
def test_windows_and_a_preview_have_their_frames_of_the_path(latents, files):
    windows = {"context_length": 2, "overlap": 0, "frames": 6}
    plain, moved = latents(**windows), latents(unit(files), **windows)
    assert (moved - plain).abs().amax(dim=(1, 2, 3)).min() > 1e-3
    assert latents(unit(files), preview=True).shape[0] == 1


def test_a_motion_module_of_another_kind_is_named(files):
    model = shared_camera(POCKET)[0]
    loaded = LoadedCamera(unit(files), model, (), ())
    v3, v2 = (SimpleNamespace(kind=kind, name=f"mm_{kind}") for kind in ("v3", "v2"))
    assert camera_notes([loaded], [v3, v2]) == camera_notes([], [v2]) == []
    (line,) = camera_notes([loaded], [v2, v3])
    assert line.endswith("was trained with the v3 motion module, and mm_v2 is of kind v2.")


def test_a_plan_with_a_camera_is_read_back_and_its_moves_change_the_id(files):
    plan = plan_clip(parse_settings({"model": str(files / "v3_mm.safetensors"), "frames": FRAMES}))
    for one in (unit(files, weight="0: 1, 3: 0.5", end=0.8), unit(files, file=files / "path.txt", every=2)):
        stored = add_controls(plan, [one])
        assert plan_from_json(stored.to_json()).controls == (one,)
    ids = {add_controls(plan, [unit(files, moves)]).id for moves in ("pan-left", "pan-right", "pan-left 2")}
    assert len(ids) == 3


def test_what_cannot_be_right_is_refused_in_a_sentence(latents, files):
    wrong = [
        (lambda: [unit(files), unit(files)], "AD-Q97"),
        (lambda: [unit(files, file=files / "empty.txt")], "AD-Q72"),
        (lambda: [unit(files, file=files / "none.txt")], "AD-Q95"),
        (lambda: [unit(files, file=files / "camera.safetensors")], "AD-Q95"),
        (lambda: [CameraUnit(files / "v3_mm.safetensors", "static")], "AD-Q75"),
        (lambda: [unit(files, "")], "AD-Q93"),
        (lambda: [unit(files, every=0)], "AD-Q94"),
        (lambda: [unit(files, start=1)], "AD-Q94"),
        (lambda: [unit(files, "40: pan-left")], "AD-Q91"),
        (lambda: [unit(files, weight="3")], "AD-C28"),
    ]
    for make, code in wrong:
        with pytest.raises(AnimateDiffError) as caught:
            latents(*make())
        assert caught.value.code == code


def test_a_model_of_another_base_is_refused_before_anything_is_loaded(latents, files, tmp_path):
    save_file(random_state(), tmp_path / "small.safetensors")
    with pytest.raises(AnimateDiffError) as caught:
        latents(CameraUnit(tmp_path / "small.safetensors", "static"))
    assert caught.value.code == "AD-Q98"


DAMAGED = {
    "no moves": {"camera": {}},
    "moves of numbers": {"camera": {"moves": 3}},
    "no weight": {"weight": None},
    "a start of words": {"start": "0"},
}


@pytest.mark.parametrize("what", DAMAGED)
def test_a_damaged_camera_in_a_plan_is_refused(files, what):
    plan = plan_clip(parse_settings({"model": str(files / "v3_mm.safetensors"), "frames": FRAMES}))
    data = add_controls(plan, [unit(files)]).to_json()
    data["controls"][0] |= DAMAGED[what]
    with pytest.raises(AnimateDiffError) as caught:
        plan_from_json(data)
    assert caught.value.code in ("AD-Q96", "AD-C76")
