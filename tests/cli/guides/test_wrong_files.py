"""Wrong files and wrong combinations of models that images or a camera steer a clip with, at the command's own door.

Each ends in one sentence about what is wrong and one about what to do, with a code, before anything is loaded.
"""

from __future__ import annotations

import re

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from support.camera_ctrl import random_state as camera_state
from support.cli import check_refused, in_folder
from support.image_encoder import i2v_state
from support.matrix import only_at
from support.motion_files import write_motion_file
from support.pia import pia_state
from support.source_files import shades
from support.sparse_ctrl import random_state
from support.wrong_guides import WRONG_FILES, right_encoder, write_wrong

ANIMATE = ("animate", "--checkpoint", "pocket", "--prompt", "a red disc", "--steps", 2, "--frames", 4, "--seed", 3)
IMAGE = ("--image", "0.png")
SPARSE = (*IMAGE, "--sparse-ctrl", "rgb.safetensors")
DRAWN = ("--sparse-ctrl", "scribble.safetensors", "--scribble")
FILMED = ("--camera-model", "camera.safetensors", "--camera")
BEGUN = (*IMAGE, "--i2v", "i2v.safetensors")
MOVED = (*IMAGE, "--pia", "pia.safetensors")
WIDTHS = (64,) * 4  # of the built-in checkpoint
POSE = "0 .5 .9 .5 .5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"

state = pytest.fixture(scope="module", name="state")(right_encoder)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A right file of each kind, a small one of another base, and images."""
    folder = tmp_path_factory.mktemp("guides")
    for kind in ("rgb", "scribble"):
        save_file(random_state(kind, widths=WIDTHS, context=64), folder / f"{kind}.safetensors")
    for name, made in (("camera", camera_state), ("i2v", i2v_state), ("pia", pia_state)):
        save_file(made(WIDTHS), folder / f"{name}.safetensors")
        save_file(made(), folder / f"{name}_of_another_base.safetensors")
    write_motion_file(folder, name="mm.safetensors")
    for number, image in enumerate(shades(2, (64, 64))):
        image.save(folder / f"{number}.png")
    for name, colour in (("drawing", "black"), ("page", "white")):
        Image.new("RGB", (64, 64), colour).save(folder / f"{name}.png")
    return folder


def check_one_sentence(ended, code, *named):
    check_refused(ended, code)
    (line,) = [line for line in ended.err.splitlines() if line.startswith("Error: ")]
    assert len(re.findall(r"\[AD-\w+\]", line)) == 1
    assert len(re.findall(r"[.?!] [A-Z]", line)) <= 2
    assert "Traceback" not in ended.err
    assert all(name in line for name in named)


@pytest.mark.parametrize("what", only_at(WRONG_FILES, 5))
def test_a_file_that_is_no_encoder(run_early, files, state, what, tmp_path):
    path = write_wrong(tmp_path, what, state)
    words = (*in_folder(files, IMAGE), "--sparse-ctrl", path)
    check_one_sentence(run_early(*ANIMATE, *words, "--output", tmp_path / "clip.png"), WRONG_FILES[what][1], path.name)


def _cut(path, right):
    save_file(right, path)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _without(part):
    return lambda path, right: save_file({key: each for key, each in right.items() if part not in key}, path)


def _text(words):
    return lambda path, _: path.write_text(words)


MODELS = {
    "--pia": (pia_state, {"other weights": "AD-Q40", "a motion module": "AD-Q40", "a level less": "AD-F15"}),
    "--i2v": (i2v_state, {"other weights": "AD-QB1", "a motion module": "AD-QB1", "a level less": "AD-QB2"}),
    "--camera-model": (
        camera_state,
        {
            "other weights": "AD-Q75",
            "a motion module": "AD-Q75",
            "a level less": "AD-Q76",
            "one of its parts": "AD-Q76",
        },
    ),
}
LEVEL = {"--pia": "up_blocks.3", "--i2v": "body.6.", "--camera-model": "encoder_down_conv_blocks.3"}
DAMAGED = {
    "text": _text("not a model"),
    "empty": lambda path, _: path.write_bytes(b""),
    "a picture": lambda path, _: Image.new("RGB", (9, 9)).save(path, "PNG"),
    "cut short": _cut,
    "other weights": lambda path, _: save_file({"a": torch.zeros(2)}, path),
    "a motion module": lambda path, _: write_motion_file(path.parent, name=path.name),
    "one of its parts": _without("qkv_merge"),
}
FILES = [
    (option, what)
    for option, (_, codes) in MODELS.items()
    for what in [*list(DAMAGED)[:4], *codes]
]  # fmt: skip


@pytest.mark.parametrize(("option", "what"), only_at(FILES, 5, 17))
def test_a_file_that_is_no_such_model(run_early, files, option, what, tmp_path):
    make, codes = MODELS[option]
    path = tmp_path / "given.safetensors"
    DAMAGED.get(what, _without(LEVEL[option]))(path, make(WIDTHS))
    words = (*in_folder(files, () if option == "--camera-model" else IMAGE), option, path)
    words += ("--camera", "pan-left") if option == "--camera-model" else ()
    ended = run_early(*ANIMATE, *words, "--output", tmp_path / "clip.png")
    check_one_sentence(ended, codes.get(what), path.name)


POSES = {
    "a line that is no pose": (f"link\n{POSE}\n{POSE} 4", "AD-Q70"),
    "a link alone": ("a link alone\n\n", "AD-Q72"),
    "no focal length": (POSE.replace(".9", "0"), "AD-Q73"),
    "no rotation": (POSE.replace("0 1 0 0 0 0 1 0", "0 2 0 0 0 0 2 0"), "AD-Q74"),
    "no text": (b"\xff\xfe\x00", "AD-Q95"),
}


@pytest.mark.parametrize("what", only_at(POSES, 0))
def test_a_file_that_has_no_poses(run_early, files, what, tmp_path):
    content, code = POSES[what]
    path = tmp_path / "path.txt"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    words = (*in_folder(files, FILMED), path)
    check_one_sentence(run_early(*ANIMATE, *words, "--output", tmp_path / "clip.png"), code, path.name)


WRONG = {
    "black on white": ((*DRAWN, "0:page.png"), "AD-Q25"),
    "a drawing before the clip": ((*DRAWN, "-9:drawing.png"), "AD-Q38"),
    "two drawings at a frame": ((*DRAWN, "0:drawing.png", "--scribble", "0:drawing.png"), "AD-H15"),
    "two images at a frame": ((*SPARSE, "--key", "0:1.png"), "AD-C71"),
    "the same encoder twice": ((*SPARSE, "--sparse-ctrl", "rgb.safetensors"), "AD-Q31"),
    "a strength for frame 9": ((*SPARSE, "--sparse-strength", "0: 1, 9: 0.5"), "AD-C22"),
    "more strengths than frames": ((*SPARSE, "--sparse-strength", "1, 1, 1, 1, 1"), "AD-C20"),
    "an encoder that ends before it starts": ((*SPARSE, "--sparse-start", "0.8", "--sparse-end", "0.5"), "AD-H12"),
    "an encoder as a motion module": (("--motion", "rgb.safetensors"), "AD-F08"),
    "both without an encoder": ((*IMAGE, "--image-method", "both"), "AD-Q36"),
    "an encoder without a motion module": ((*SPARSE, "--motion", "text2video-zero"), "AD-C14"),
    "a camera without a motion module": ((*FILMED, "pan-left", "--motion", "text2video-zero"), "AD-C14"),
    "a camera of another base": (
        ("--camera-model", "camera_of_another_base.safetensors", "--camera", "pan-left"),
        "AD-Q98",
    ),
    "PIA of another base": ((*IMAGE, "--pia", "pia_of_another_base.safetensors"), "AD-Q54"),
    "no moves": ((*FILMED, " ; "), "AD-Q85"),
    "an unknown easing": ((*FILMED, "pan-left 1 slowly"), "AD-Q89"),
    "a speed of 99": ((*FILMED, "pan-left 99"), "AD-Q90"),
    "no speed": ((*FILMED, "pan-left 1.2.3"), "AD-Q92"),
    "parts out of their order": ((*FILMED, "2: pan-left; 1: static"), "AD-Q86"),
    "a part without its frame": ((*FILMED, "pan-left; static"), "AD-Q87"),
    "a camera's strength of 3": ((*FILMED, "pan-left", "--camera-strength", "3"), "AD-C28"),
    "a camera that ends before it starts": (
        (*FILMED, "pan-left", "--camera-start", "0.8", "--camera-end", "0.5"),
        "AD-Q94",
    ),
    "each -1st pose": ((*FILMED, "path.txt", "--camera-every", "-1"), "AD-Q94"),
    "PIA and I2V": ((*BEGUN, "--pia", "pia.safetensors"), "AD-QC5"),
    "I2V strengths for frame 9": ((*BEGUN, "--i2v-strength", "0: 1, 9: 0.5"), "AD-C22"),
    "a motion of PIA for five frames": ((*MOVED, "--pia-motion", "1, 1, 1, 1, 1"), "AD-C20"),
}


@pytest.mark.parametrize("what", only_at(WRONG, 3, 12))
def test_a_wrong_combination(run_early, files, what, tmp_path):
    words, code = WRONG[what]
    (tmp_path / "path.txt").write_text(POSE)
    words = [tmp_path / word if word == "path.txt" else word for word in words]
    check_one_sentence(run_early(*ANIMATE, *in_folder(files, words), "--output", tmp_path / "clip.png"), code)
