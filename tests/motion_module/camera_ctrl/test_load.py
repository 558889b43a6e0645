"""Files of CameraCtrl: every spelling gives the same model; what is no such file is refused by name."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.camera_ctrl import MERGE, random_state, shared_camera
from support.motion_files import random_motion_state

from motion_module import MotionFileError
from motion_module.camera_ctrl.load import load_camera_ctrl, read_camera_ctrl
from motion_module.camera_ctrl.poses import parse_poses, write_poses


def official(state, path):
    """As the official training saves it: two dictionaries, the prefix of distributed training, counters."""
    parts = {"pose_encoder_state_dict": {}, "attention_processor_state_dict": {}}
    for name, tensor in state.items():
        part = list(parts)["qkv_merge" in name]
        parts[part][f"module.{name}"] = tensor
    torch.save({"epoch": 3, "global_step": 7, **parts}, path)


SPELLINGS = {
    "official": (official, "file.ckpt"),
    "pruned": (lambda state, path: save_file(state, path), "file.safetensors"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("tables", [True, False])
def test_every_spelling_gives_the_same_model(tmp_path, spelling, tables):
    write, name = SPELLINGS[spelling]
    write(random_state(tables=tables), tmp_path / name)
    found = read_camera_ctrl(tmp_path / name)
    assert (found.spelling, found.layout.trained_length) == (spelling, 16)
    model, reference = load_camera_ctrl(tmp_path / name), shared_camera()[0].state_dict()
    assert model.state_dict().keys() == reference.keys()
    assert all(torch.equal(tensor, reference[name]) for name, tensor in model.state_dict().items())


def without(part):
    return {name: tensor for name, tensor in random_state().items() if part not in name}


WRONG = {
    "a motion module": (lambda: random_motion_state("v3"), "AD-Q75", "is a file of another kind, not CameraCtrl"),
    "the merges alone": (lambda: without("encoder_"), "AD-Q76", r"\(encoder_conv_in\) is missing"),
    "the encoder alone": (lambda: without("qkv_merge"), "AD-Q76", r"\(qkv_merge\) are missing"),
    "a site less": (lambda: without("up_blocks.3.motion_modules.2"), "AD-Q76", r"up_blocks\.3.*is missing"),
    "another shape": (
        lambda: random_state() | {MERGE.format("down_blocks.0.motion_modules.0", "bias"): torch.ones(3)},
        "AD-Q76",
        r"qkv_merge.bias has shape \(3,",
    ),
    "odd width": (
        lambda: random_state() | {"encoder_down_conv_blocks.0.0.block1.weight": torch.ones(33, 32, 3, 3)},
        "AD-Q76",
        "33 is not a multiple of 32",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_such_model_is_refused_by_name(tmp_path, what):
    make, code, words = WRONG[what]
    save_file({name: tensor.contiguous() for name, tensor in make().items()}, tmp_path / "file.safetensors")
    with pytest.raises(MotionFileError, match=words) as caught:
        load_camera_ctrl(tmp_path / "file.safetensors")
    assert caught.value.code == code


POSE = "0 .5 .9 .5 .5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"
TEXTS = {
    "AD-Q70": f"link\n{POSE}\n{POSE} 4",
    "AD-Q72": "a link alone\n\n",
    "AD-Q73": POSE.replace(".9", "0"),
    "AD-Q74": POSE.replace("0 1 0 0 0 0 1 0", "0 2 0 0 0 0 2 0"),
}


@pytest.mark.parametrize("code", TEXTS)
def test_texts_that_are_no_poses_are_refused_with_their_line(code):
    with pytest.raises(MotionFileError.__mro__[1]) as caught:
        parse_poses(TEXTS[code], "path.txt")
    assert caught.value.code == code
    assert "path.txt" in str(caught.value)


def test_a_mirrored_camera_is_refused():
    with pytest.raises(MotionFileError.__mro__[1]) as caught:
        parse_poses(POSE.replace("0 0 0 0 1 0", "0 0 0 0 -1 0"))
    assert caught.value.code == "AD-Q74"


def test_poses_are_read_as_they_were_written_with_and_without_a_link():
    poses = parse_poses(f"https://example.org\n{POSE}\n\n{POSE.replace('.9', '.8')}\n")
    assert [pose.fy for pose in poses] == [0.9, 0.8]
    assert parse_poses(write_poses(poses)) == poses == parse_poses(f"{POSE}\n{POSE.replace('.9', '.8')}")
