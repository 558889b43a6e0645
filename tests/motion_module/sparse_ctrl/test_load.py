"""Files of SparseCtrl encoders: every spelling gives the same network; what is no such file is refused by name."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import random_motion_state
from support.sparse_ctrl import as_diffusers, as_mixed, random_state, shared_encoder

from motion_module import MotionFileError, inspect_motion_file, load_motion_module
from motion_module.sparse_ctrl.load import load_sparse_ctrl, read_sparse_ctrl

SPELLINGS = {
    "official": lambda state: state,
    "LDM and official": as_mixed,
    "diffusers": as_diffusers,
}


def pickled(state, path):
    """As the official release: with a wrapper, the prefix of distributed training and a description beside it."""
    torch.save({"animatediff_config": {"a": 1}, "controlnet": {f"module.{name}": t for name, t in state.items()}}, path)


@pytest.mark.parametrize("kind", ["rgb", "scribble"])
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_gives_the_same_encoder(tmp_path, kind, spelling):
    state = random_state(kind, tables=True)
    path = tmp_path / "file.safetensors"
    save_file({name: tensor.contiguous() for name, tensor in SPELLINGS[spelling](state).items()}, path)
    found = read_sparse_ctrl(path)
    assert (found.spelling, found.layout.kind, found.layout.trained_length) == (spelling, kind, 32)
    encoder, reference = load_sparse_ctrl(path), shared_encoder(kind)[0].state_dict()
    assert encoder.state_dict().keys() == reference.keys()
    assert all(torch.equal(tensor, reference[name]) for name, tensor in encoder.state_dict().items())


def test_a_pickle_in_half_precision_without_tables_loads_in_its_precision(tmp_path):
    pickled({name: tensor.half() for name, tensor in random_state("rgb").items()}, tmp_path / "file.ckpt")
    encoder = load_sparse_ctrl(tmp_path / "file.ckpt")
    assert {weight.dtype for weight in encoder.parameters()} == {torch.float16}
    assert encoder.trained_length == 32


def changed(**tensors):
    return {**random_state("rgb"), **tensors}


WRONG = {
    "a motion module": (lambda: random_motion_state("v3"), "AD-Q10", "is a motion module, not"),
    "a weight less": (
        lambda: {k: v for k, v in random_state("rgb").items() if "mid_block.resnets.1.conv2" not in k},
        "AD-Q01",
        "mid_block.resnets.1.conv2.weight is missing",
    ),
    "a weight more": (lambda: changed(extra=torch.ones(1)), "AD-Q01", "extra is unexpected"),
    "another shape": (
        lambda: changed(**{"time_embedding.linear_2.bias": torch.ones(3)}),
        "AD-Q01",
        r"has shape \(3,\) instead of",
    ),
    "whole numbers": (
        lambda: changed(**{"time_embedding.linear_2.bias": torch.ones(128, dtype=torch.int32)}),
        "AD-Q01",
        "dtype int32 instead of a float",
    ),
    "no condition": (
        lambda: {k: v for k, v in random_state("rgb").items() if "cond_embedding" not in k},
        "AD-Q01",
        "controlnet_cond_embedding is missing",
    ),
    "not numbers": (
        lambda: changed(**{"time_embedding.linear_2.bias": torch.full((128,), float("nan"))}),
        "AD-F33",
        "no finite numbers",
    ),
    "odd width": (
        lambda: changed(**{"down_blocks.0.resnets.0.conv1.weight": torch.ones(33, 32, 3, 3)}),
        "AD-Q01",
        "33 is not a multiple of 32",
    ),
    "a long table": (
        lambda: changed(
            **{
                "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks"
                ".0.pos_encoder.pe": torch.ones(1, 5000, 32)
            }
        ),
        "AD-Q01",
        "not for the same 1 to 1024 frames",
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_encoder_is_refused_by_name(tmp_path, what):
    make, code, words = WRONG[what]
    save_file({name: tensor.contiguous() for name, tensor in make().items()}, tmp_path / "file.safetensors")
    with pytest.raises(MotionFileError, match=words) as caught:
        load_sparse_ctrl(tmp_path / "file.safetensors")
    assert caught.value.code == code


def test_a_missing_file_and_a_damaged_one_are_refused(tmp_path):
    with pytest.raises(MotionFileError) as caught:
        load_sparse_ctrl(tmp_path / "none.ckpt")
    assert caught.value.code == "AD-F28"
    (tmp_path / "cut.safetensors").write_bytes(b"\x90\x00\x00\x00\x00\x00\x00\x00{}")
    with pytest.raises(MotionFileError):
        load_sparse_ctrl(tmp_path / "cut.safetensors")


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_inspecting_names_it_and_says_how_it_is_used(tmp_path, spelling):
    path = tmp_path / "file.safetensors"
    for kind, what in (("rgb", "for images"), ("scribble", "for scribbles")):
        state = SPELLINGS[spelling](random_state(kind))
        save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)
        info = inspect_motion_file(path)
        assert info.what == f"a SparseCtrl encoder {what}"
        assert "--sparse-ctrl" in info.problem
        with pytest.raises(MotionFileError):
            load_motion_module(path)
