"""`animate --pia`: the file is the motion module, the image is its input, and the recipe makes the clip again."""

from __future__ import annotations

import shutil

import pytest
from hosts.diffusers.control.test_pia import files  # noqa: F401 - a fixture
from safetensors.torch import save_file
from support.cli import check_refused, in_folder
from support.sparse_ctrl import random_state

from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--steps", 2, "--frames", 4, "--seed", 3)


def test_the_image_moves_and_the_recipe_makes_the_clip_again(run, tmp_path, files):  # noqa: F811
    model, clip = files / "pia.safetensors", tmp_path / "clip.png"
    done = run(*ANIMATE, "--pia", model, "--key", f"1:{files / '0.png'}", "--pia-motion", "Large", "--output", clip)
    assert done.code == 0, done.err
    assert "The image goes to pia.safetensors, since it is given with --pia." in done.err
    recipe = read_recipe(clip).data["files"]
    named = {"name": "pia.safetensors", "sha256": file_hash(model)}
    assert recipe["motion"] == {**named, "kind": "pia"}
    (control,) = recipe["controls"]
    assert (control["model"], control["weight"]) == (named, "0.8, 1, 0.8, 0.7")
    assert "pins" not in recipe
    shutil.copytree(files, tmp_path / "elsewhere")
    done = run("reproduce", clip, "--models", tmp_path / "elsewhere")
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err


IMAGE, PIA = ("--image", "0.png"), ("--pia", "pia.safetensors")
WRONG = {
    "no model": ((*IMAGE, "--pia-motion", "large"), "AD-Q60"),
    "another motion module": ((*IMAGE, *PIA, "--motion", "mm_sd_v14_v1.safetensors"), "AD-Q61"),
    "no image": (PIA, "AD-Q62"),
    "two images": ((*IMAGE, *PIA, "--last", "1.png"), "AD-Q62"),
    "above one": ((*IMAGE, *PIA, "--pia-motion", "1.5"), "AD-Q63"),
    "no name": ((*IMAGE, *PIA, "--pia-motion", "huge"), "AD-C27"),
    "a method without its file": ((*IMAGE, "--image-method", "pia"), "AD-Q64"),
    "another method": ((*IMAGE, *PIA, "--image-method", "pins"), "AD-Q65"),
    "an encoder for images": ((*IMAGE, *PIA, "--sparse-ctrl", "rgb.safetensors"), "AD-Q65"),
    "a motion module as PIA": ((*IMAGE, "--pia", "mm_sd_v14_v1.safetensors"), "AD-Q40"),
    "PIA as a motion module": ((*IMAGE, "--motion", "pia.safetensors"), "AD-F08"),
    "PIA as an encoder": ((*IMAGE, "--sparse-ctrl", "pia.safetensors"), "AD-Q10"),
    "a missing file": ((*IMAGE, "--pia", "none.safetensors"), "AD-F28"),
    "frame 40 of 4": ((*PIA, "--key", "40:0.png"), "AD-C75"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_and_combinations_are_one_sentence(run_early, files, what, tmp_path):  # noqa: F811
    words, code = WRONG[what]
    if not (files / "rgb.safetensors").exists():
        save_file(random_state("rgb", widths=(64,) * 4), files / "rgb.safetensors")
    check_refused(run_early(*ANIMATE, *in_folder(files, words), "--output", tmp_path / "clip.png"), code)
