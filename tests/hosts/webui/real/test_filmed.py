"""CameraCtrl and AnimateLCM-I2V in the real WebUI, by API and by clicking."""

from __future__ import annotations

import numpy
import pytest
from support.webui_real.clicking import PANEL, fill, generate, open_fold, prepare_clip, prose
from support.webui_real.clips import animate
from support.webui_real.guided import CAMERA, I2V, filmed_windows, remove_guides, write_guides
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    decoded,
    frames_of,
    left_as_it_was,
    painted,
    refused,
    same_picture_after,
    sent_back,
    texts_of,
)

from lib_animatediff.request.camera.moves import poses_of_moves
from lib_animatediff.video.hashing import file_hash
from motion_module.camera_ctrl.poses import write_poses
from motion_module.camera_ctrl.rays import pluecker_rays

FRAMES, FPS = 4, 8
MOVES = "pan-left 2, zoom-in; 2: roll-clockwise 3/s"
FILMED = {"frames": FRAMES, "model": "mm_small_v3", "camera": MOVES, "camera_model": CAMERA}
BEGUN = {"frames": FRAMES, "model": I2V, "image": "in/filmed/0.png"}


@pytest.fixture(scope="module", autouse=True)
def files(studio):
    """An image and a file of poses in the WebUI's own folder, and models beside the motion modules."""
    write_guides(studio.motion_modules_dir)
    folder = studio.data_dir / "in" / "filmed"
    folder.mkdir(parents=True)
    painted().save(folder / "0.png")
    (folder / "path.txt").write_text(write_poses(poses_of_moves("orbit-left 2", 9, FPS)))
    yield folder
    remove_guides(studio.motion_modules_dir)


def of_path(poses, window, side=64):
    return pluecker_rays([poses[frame] for frame in window], (side, side)).numpy()


@pytest.mark.shows("CameraCtrl: poses row by row in each window, hires fix, a file of poses; the next image is plain")
def test_poses_by_row(studio):
    poses = poses_of_moves(MOVES, FRAMES, FPS)
    with same_picture_after(studio), left_as_it_was(studio):
        (seen,) = filmed_windows(studio, FILMED)
        assert abs(seen - of_path(poses, range(FRAMES))).max() < 1e-6
        long = {**FILMED, "frames": 8, "context_length": 4, "overlap": 0, "context_kind": "static"}
        windows = filmed_windows(studio, long)
        of_eight = poses_of_moves(MOVES, 8, FPS)
        for window, start in zip(windows, (0, 4), strict=True):
            assert abs(window - of_path(of_eight, range(start, start + 4))).max() < 1e-6
        sizes = [each.shape[-1] for each in filmed_windows(studio, FILMED, **HIRES)]
        assert sizes == [64, 128]
        (read,) = filmed_windows(studio, {**FILMED, "camera": "in/filmed/path.txt", "camera_every": 2})
        assert abs(read - of_path(poses_of_moves("orbit-left 2", 9, FPS)[::2], range(FRAMES))).max() < 1e-4
        made, plain = frames_of(studio, FILMED), frames_of(studio, {"frames": FRAMES, "model": "mm_small_v3"})
        assert abs(made - plain).max() > FLOAT_ORDER
        assert (frames_of(studio, {**FILMED, "camera_strength": 0}) == plain).all()
        assert len(animate(studio, {**FILMED, "freeinit_enable": True, "freeinit_iters": 2}, n_iter=2)["images"]) == 2


@pytest.mark.shows("CameraCtrl and AnimateLCM-I2V: infotext with hashes, the same clip again; refusals before sampling")
@pytest.mark.parametrize("clip", [FILMED, BEGUN], ids=["CameraCtrl", "AnimateLCM-I2V"])
def test_the_same_clip_again(studio, files, clip):
    with same_picture_after(studio), left_as_it_was(studio):
        answer = animate(studio, {**clip, "formats": ["GIF"]})
        frames = decoded(studio)
        (text,) = texts_of(answer)
        name = clip.get("camera_model") or clip["model"]
        assert f"{name}: {file_hash(studio.motion_modules_dir / name)[:10]}" in text
        assert ("Camera: " if clip is FILMED else "Guided frames: ") in text
        assert (sent_back(studio, answer) == frames).all()
        other = {**clip, "camera": "zoom-out"} if clip is FILMED else {**clip, "i2v_drift": 0.1}
        assert abs(frames_of(studio, other) - frames).max() > FLOAT_ORDER
        assert numpy.isfinite(frames).all()
        assert "[AD-QA1]" in refused(studio, {**FILMED, "camera_model": ""})
        assert "[AD-QC4]" in refused(studio, {**BEGUN, "image": ""})


@pytest.mark.shows("CameraCtrl: moves and model chosen in the panel, the path drawn from above, generated")
def test_clicked(studio, page, files, screenshot):
    asked = {"frames": FRAMES, "camera": "pan-left 0.5", "camera_model": CAMERA}
    wanted = frames_of(studio, asked, sampler_name="DPM++ 2M")  # as on the page
    prepare_clip(page, studio, FRAMES)
    open_fold(page, "camera")
    page.locator(f"{PANEL}_move_picker input").click()
    page.locator(f"{PANEL}_move_picker li", has_text="pan-left").first.click()
    page.wait_for_function(f"document.querySelector('{PANEL}_camera textarea').value === 'pan-left 0.5'")
    page.locator(f"{PANEL}_plan_camera svg").wait_for()
    page.locator(f"{PANEL}_camera_refresh").click()
    page.locator(f"{PANEL}_camera_picker input").click()
    page.locator(f"{PANEL}_camera_picker li", has_text=CAMERA).click()
    page.wait_for_function(f"document.querySelector('{PANEL}_camera_model textarea').value === '{CAMERA}'")
    before = page.locator(prose(f"{PANEL}_plan_camera")).inner_html()
    screenshot(page, "camera")
    generate(page)
    assert abs(decoded(studio) - wanted).max() < FLOAT_ORDER
    fill(page, {"animatediff_txt2img_camera": "orbit-right, zoom-in 0.3"})
    drawn = [prose(f"{PANEL}_plan_camera"), before]
    page.wait_for_function("([id, before]) => document.querySelector(id).innerHTML !== before", arg=drawn)
