"""`animate --camera`: the moves are in the recipe, which makes the clip again; the path is drawn."""

from __future__ import annotations

import shutil

import pytest
from hosts.diffusers.control.test_camera import files  # noqa: F401 - a fixture
from support.cli import check_refused, in_folder

from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--steps", 2, "--frames", 4, "--seed", 3)


def test_the_camera_moves_and_the_recipe_makes_the_clip_again(run, tmp_path, files):  # noqa: F811
    model, clip, drawing = files / "camera.safetensors", tmp_path / "clip.png", tmp_path / "path.svg"
    camera = ("--camera", "pan-left 0.5; 2: zoom-in 1/s", "--camera-model", model, "--camera-strength", "0: 1, 3: 0.5")
    done = run(
        *ANIMATE, "--motion", files / "v3_mm.safetensors", *camera, "--camera-drawing", drawing, "--output", clip
    )
    assert done.code == 0, done.err
    assert "The camera path is drawn in path.svg." in done.err
    assert "camera.safetensors needs about 0.1 GB of memory for its weights, and 0.1 GB for its features." in done.err
    assert drawing.read_text().startswith("<svg")
    recipe = read_recipe(clip)
    (control,) = recipe.data["files"]["controls"]
    assert control["model"] == {"name": "camera.safetensors", "sha256": file_hash(model)}
    assert control["camera"] == {"moves": "pan-left 0.5; 2: zoom-in 1/s"}
    assert "camera.safetensors, pan-left 0.5; 2: zoom-in 1/s, weight 0: 1, 3: 0.5" in recipe.infotext
    shutil.copytree(files, tmp_path / "elsewhere")
    done = run("reproduce", clip, "--models", tmp_path / "elsewhere")
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err


MODEL = ("--camera-model", "camera.safetensors")
WRONG = {
    "no path": (MODEL, "AD-Q99"),
    "a strength without a path": (("--camera-strength", "0.5"), "AD-Q99"),
    "no model": (("--camera", "pan-left"), "AD-QA1"),
    "each pose of moves": ((*MODEL, "--camera", "pan-left", "--camera-every", "2"), "AD-QA2"),
    "a drawing in a file": ((*MODEL, "--camera", "pan-left", "--camera-drawing", "path.txt/a.svg"), "AD-QA3"),
    "no such file": ((*MODEL, "--camera", "none.txt"), "AD-QA4"),
    "another model": (("--camera-model", "v3_mm.safetensors", "--camera", "pan-left"), "AD-Q75"),
    "a missing model": (("--camera-model", "none.safetensors", "--camera", "pan-left"), "AD-F28"),
    "no move": ((*MODEL, "--camera", "panleft"), "AD-Q88"),
    "frame 40 of 4": ((*MODEL, "--camera", "40: pan-left"), "AD-Q91"),
    "no poses": ((*MODEL, "--camera", "empty.txt"), "AD-Q72"),
    "a model as a motion module": (("--motion", "camera.safetensors"), "AD-F08"),
    "a model as an encoder": (("--image", "a.png", "--sparse-ctrl", "camera.safetensors"), "AD-Q10"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_and_combinations_are_one_sentence(run_early, files, what, tmp_path):  # noqa: F811
    words, code = WRONG[what]
    words = [files / word if word.startswith(("path.txt", "empty.txt")) else word for word in words]
    if not (files / "a.png").exists():
        from PIL import Image

        Image.new("RGB", (64, 64)).save(files / "a.png")
    check_refused(run_early(*ANIMATE, *in_folder(files, words), "--output", tmp_path / "clip.png"), code)
