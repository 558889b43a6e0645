"""`animate --sparse-ctrl`: which method images at frames are used for, recipes, and what is refused early."""

from __future__ import annotations

import shutil

import pytest
from hosts.diffusers.control.test_sparse_ctrl import files  # noqa: F401 - a fixture
from support.cli import check_refused, in_folder
from support.motion_files import write_motion_file

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.video import read_clip, read_recipe
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--steps", 2, "--frames", 4, "--seed", 3)
ANIMATE = (*ANIMATE, "--width", 32, "--height", 32)


def frames_of(path):
    return b"".join(frame.image.convert("RGB").tobytes() for frame in read_clip(path))


def test_images_go_to_the_encoder_and_the_recipe_makes_the_clip_again(run, tmp_path, files):  # noqa: F811
    words = (*ANIMATE, "--image", files / "0.png", "--key", f"3:{files / '1.png'}", "--sparse-strength", "0: 1, 3: 0.5")
    words = (*words, "--image-fit", "pad")
    clip, encoder = tmp_path / "clip.png", files / "rgb.safetensors"
    done = run(*words, "--sparse-ctrl", encoder, "--sparse-end", 0.8, "--output", clip)
    assert done.code == 0, done.err
    assert "The images go to rgb.safetensors, since it is given" in done.err
    assert "--image-fit has no effect on SparseCtrl and PIA" in done.err
    recipe = read_recipe(clip).data["files"]
    assert "pins" not in recipe
    (control,) = recipe["controls"]
    assert control["model"] == {"name": "rgb.safetensors", "sha256": file_hash(encoder)}
    assert [key["frame"] for key in control["keys"]] == [0, 3]
    folder = tmp_path / "elsewhere"
    shutil.copytree(files, folder)
    done = run("reproduce", clip, "--models", folder)
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err
    both = tmp_path / "both.png"
    done = run(*words, "--sparse-ctrl", encoder, "--image-method", "both", "--output", both)
    assert done.code == 0, done.err
    assert {"pins", "controls"} <= read_recipe(both).data["files"].keys()
    pinned = tmp_path / "pinned.png"
    done = run(*ANIMATE, "--image", files / "0.png", "--output", pinned)
    assert done.code == 0, done.err
    assert "controls" not in read_recipe(pinned).data["files"]
    assert len({frames_of(path) for path in (clip, both, pinned)}) == 3


def test_the_built_in_encoder_has_a_name(run, tmp_path, files):  # noqa: F811
    clip, file = tmp_path / "clip.png", POCKET.folder / POCKET.sparse_ctrl
    done = run(*ANIMATE, "--image", files / "0.png", "--sparse-ctrl", "pocket", "--output", clip)
    assert done.code == 0, done.err
    (control,) = read_recipe(clip).data["files"]["controls"]
    assert control["model"] == {"name": file.name, "sha256": file_hash(file)}
    done = run("reproduce", clip, "--models", files)
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err


ONE = ("--image", "0.png")
TWO_FILES = ("--sparse-ctrl", "rgb.safetensors", "--sparse-ctrl", "other_base.safetensors")
WRONG = {
    "no encoder": ((*ONE, "--sparse-strength", "0.5"), "AD-Q30"),
    "two of one kind": (
        (*ONE, "--sparse-ctrl", "rgb.safetensors", "--sparse-ctrl", "other_base.safetensors"),
        "AD-Q31",
    ),
    "no drawing": ((*ONE, "--sparse-ctrl", "scribble.safetensors"), "AD-Q32"),
    "no image": (("--sparse-ctrl", "rgb.safetensors"), "AD-Q33"),
    "a drawing for images": ((*ONE, "--sparse-ctrl", "rgb.safetensors", "--scribble", "0:drawing.png"), "AD-Q34"),
    "a method for nothing": (("--image-method", "pins"), "AD-Q35"),
    "a method without its file": ((*ONE, "--image-method", "sparse-ctrl"), "AD-Q36"),
    "a file without its method": ((*ONE, "--image-method", "pins", "--sparse-ctrl", "rgb.safetensors"), "AD-Q37"),
    "a malformed drawing": (("--sparse-ctrl", "scribble.safetensors", "--scribble", "drawing.png"), "AD-Q38"),
    "a missing drawing": (("--sparse-ctrl", "scribble.safetensors", "--scribble", "0:none.png"), "AD-Q39"),
    "a colour image": (("--sparse-ctrl", "scribble.safetensors", "--scribble", "0:red.png"), "AD-Q24"),
    "frame 40 of 4": (("--key", "40:0.png", "--sparse-ctrl", "rgb.safetensors"), "AD-C75"),
    "drawing 40 of 4": (("--sparse-ctrl", "scribble.safetensors", "--scribble", "40:drawing.png"), "AD-H17"),
    "a motion module": ((*ONE, "--sparse-ctrl", "mm.safetensors"), "AD-Q10"),
    "an image": ((*ONE, "--sparse-ctrl", "0.png"), None),
    "another base": ((*ONE, "--sparse-ctrl", "other_base.safetensors"), "AD-Q20"),
    "an odd size": ((*ONE, "--sparse-ctrl", "rgb.safetensors", "--width", 60), "AD-D13"),
    "a strength of 3": ((*ONE, "--sparse-ctrl", "rgb.safetensors", "--sparse-strength", "3"), "AD-C28"),
    "an empty part": ((*ONE, "--sparse-ctrl", "rgb.safetensors", "--sparse-end", "0"), "AD-H12"),
    "an encoder as a ControlNet": (("--control", "0.png", "--control-model", "rgb.safetensors"), "AD-Q21"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_and_combinations_are_one_sentence(run_early, files, what, tmp_path):  # noqa: F811
    words, code = WRONG[what]
    if not (files / "mm.safetensors").exists():
        write_motion_file(files, name="mm.safetensors")
    check_refused(run_early(*ANIMATE, *in_folder(files, words), "--output", tmp_path / "clip.png"), code)
