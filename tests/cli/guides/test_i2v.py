"""`animate --i2v`: the file is the motion module, the clip begins with the image, and the recipe makes it again."""

from __future__ import annotations

import shutil

import pytest
from hosts.diffusers.control.test_i2v import files  # noqa: F401 - a fixture
from safetensors.torch import save_file
from support.cli import check_refused, in_folder
from support.pia import pia_state
from support.sparse_ctrl import random_state

from lib_animatediff.video import read_recipe
from lib_animatediff.video.hashing import file_hash

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--frames", 4, "--seed", 3)


def test_the_clip_begins_with_the_image_and_the_recipe_makes_it_again(run, tmp_path, files):  # noqa: F811
    model, clip = files / "i2v.safetensors", tmp_path / "clip.png"
    given = ("--i2v", model, "--image", files / "0.png", "--i2v-drift", 0.4, "--speed", "fast", "--steps", 4)
    done = run(*ANIMATE, *given, "--output", clip)
    assert done.code == 0, done.err
    assert "The image goes to i2v.safetensors, since it is given with --i2v." in done.err
    assert "i2v.safetensors needs about 0.1 GB of memory for its weights, and 0.1 GB for its features." in done.err
    recipe = read_recipe(clip)
    named = {"name": "i2v.safetensors", "sha256": file_hash(model)}
    assert recipe.data["files"]["motion"] == {**named, "kind": "i2v"}
    assert (recipe.data["sampler"], recipe.data["spacing"], recipe.data["cfg"]) == ("lcm", "trailing", 1.0)
    (control,) = recipe.data["files"]["controls"]
    assert (control["model"], control["drift"]) == (named, 0.4)
    assert "weight 1, drift 0.4" in recipe.infotext
    shutil.copytree(files, tmp_path / "elsewhere")
    done = run("reproduce", clip, "--models", tmp_path / "elsewhere")
    assert done.out.startswith("Reproduced: frame 0 is identical"), done.err


IMAGE, I2V = ("--image", "0.png"), ("--i2v", "i2v.safetensors")
WRONG = {
    "no model": ((*IMAGE, "--i2v-drift", "0.5"), "AD-QC2"),
    "another motion module": ((*IMAGE, *I2V, "--motion", "mm_v2.safetensors"), "AD-QC3"),
    "no image": (I2V, "AD-QC4"),
    "two images": ((*IMAGE, *I2V, "--last", "1.png"), "AD-QC4"),
    "an image at another frame": ((*I2V, "--key", "2:0.png"), "AD-QC4"),
    "two modules": ((*IMAGE, *I2V, "--pia", "pia.safetensors"), "AD-QC5"),
    "a method without its file": ((*IMAGE, "--image-method", "i2v"), "AD-QC6"),
    "another method": ((*IMAGE, *I2V, "--image-method", "pins"), "AD-QC5"),
    "an encoder for images": ((*IMAGE, *I2V, "--sparse-ctrl", "rgb.safetensors"), "AD-QC5"),
    "much drift": ((*IMAGE, *I2V, "--i2v-drift", "9"), "AD-QB7"),
    "a motion module as I2V": ((*IMAGE, "--i2v", "mm_v2.safetensors"), "AD-QB1"),
    "I2V as a motion module": ((*IMAGE, "--motion", "i2v.safetensors"), "AD-F08"),
    "I2V as PIA": ((*IMAGE, "--pia", "i2v.safetensors"), "AD-Q40"),
    "of another base": ((*IMAGE, "--i2v", "small.safetensors"), "AD-QB8"),
}


@pytest.mark.parametrize("what", WRONG)
def test_wrong_files_and_combinations_are_one_sentence(run_early, files, what, tmp_path):  # noqa: F811
    words, code = WRONG[what]
    if not (files / "pia.safetensors").exists():
        save_file(pia_state((64,) * 4), files / "pia.safetensors")
        save_file(random_state("rgb", widths=(64,) * 4), files / "rgb.safetensors")
    check_refused(run_early(*ANIMATE, *in_folder(files, words), "--output", tmp_path / "clip.png"), code)
