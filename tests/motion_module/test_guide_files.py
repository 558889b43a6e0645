"""Files that steer a clip: each is named and described, and written as its official file from every spelling."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.camera_ctrl import random_state as camera_state
from support.image_encoder import i2v_state
from support.motion_files import as_adapter, random_motion_state
from support.pia import pia_state
from support.sparse_ctrl import as_diffusers, as_mixed
from support.sparse_ctrl import random_state as sparse_state

from motion_module import (
    MotionFileError,
    convert_motion_file,
    inspect_motion_file,
    load_camera_ctrl,
    load_image_encoder,
    load_image_input,
    load_motion_module,
    load_sparse_ctrl,
)
from motion_module.guide_files import find_guide


def as_pia_adapter(state):
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    return as_adapter(motion) | {name: tensor for name, tensor in state.items() if name not in motion}


def pickled(state, path):
    torch.save(
        {
            "pose_encoder_state_dict": {k: v for k, v in state.items() if "qkv_merge" not in k},
            "attention_processor_state_dict": {k: v for k, v in state.items() if "qkv_merge" in k},
        },
        path,
    )


def saved(state, path):
    save_file({name: tensor.contiguous() for name, tensor in state.items()}, path)


# guide: the official state dict with tables, other spellings with how they are written, frames
GUIDES = {
    "sparsectrl-rgb": (lambda: sparse_state("rgb", tables=True), [(as_mixed, saved), (as_diffusers, saved)], 32),
    "sparsectrl-scribble": (lambda: sparse_state("scribble", tables=True), [(as_mixed, saved)], 32),
    "pia": (lambda: pia_state(tables=True), [(as_pia_adapter, saved)], 32),
    "i2v": (i2v_state, [(lambda state: {f"module.{name}": t for name, t in state.items()}, saved)], 64),
    "cameractrl": (lambda: camera_state(tables=True), [(dict, pickled)], 16),
}
WITH_TABLES = pytest.mark.parametrize("guide", GUIDES)


@WITH_TABLES
def test_every_spelling_is_written_as_the_official_file(tmp_path, guide):
    make, spellings, frames = GUIDES[guide]
    official = make()
    without = {name: tensor for name, tensor in official.items() if not name.endswith(".pe")}
    spelled = [
        (dict, saved, official),
        (dict, saved, without),
        *((change, write, official) for change, write in spellings),
    ]
    for number, (change, write, state) in enumerate(spelled):
        source, target = tmp_path / f"{number}.ckpt", tmp_path / f"to-{number}.safetensors"
        write(change(dict(state)), source)
        convert_motion_file(source, target)
        written = load_file(target)
        assert written.keys() == official.keys()
        assert all(torch.allclose(tensor, official[name], atol=1e-6) for name, tensor in written.items())
        assert all(torch.equal(written[name], official[name]) for name in without)
        info = inspect_motion_file(target)
        assert (info.guide, info.kind, info.trained_length, info.base) == (guide, None, frames, "sd15")
        assert info.parameters == sum(tensor.numel() for tensor in without.values())
        assert info.widths == (32, 64, 128, 128)
        assert info.problem


def test_what_was_written_loads(tmp_path):
    loads = {
        "sparsectrl-rgb": load_sparse_ctrl,
        "pia": load_image_input,
        "i2v": load_image_encoder,
        "cameractrl": load_camera_ctrl,
    }
    for guide, load in loads.items():
        saved(GUIDES[guide][0](), tmp_path / "a.safetensors")
        convert_motion_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors", force=True)
        load(tmp_path / "b.safetensors")
        if guide in ("pia", "i2v"):
            assert load_motion_module(tmp_path / "b.safetensors", kind=guide).kind == guide


def test_half_precision_stays(tmp_path):
    saved({name: tensor.half() for name, tensor in camera_state().items()}, tmp_path / "a.safetensors")
    convert_motion_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    weights = load_file(tmp_path / "b.safetensors")
    assert {tensor.dtype for name, tensor in weights.items() if not name.endswith(".pe")} == {torch.float16}
    assert inspect_motion_file(tmp_path / "b.safetensors").dtype == "float16"


def test_they_are_no_motion_adapters_and_of_no_kind_of_motion_module(tmp_path):
    saved(camera_state(), tmp_path / "a.safetensors")
    for options in ({"to": "adapter"}, {"kind": "v3"}):
        target = tmp_path / ("b" if "to" in options else "b.safetensors")
        with pytest.raises(MotionFileError) as caught:
            convert_motion_file(tmp_path / "a.safetensors", target, **options)
        assert caught.value.code == "AD-QC7"
        assert not target.exists()


def test_a_file_that_is_not_complete_is_named_without_a_description_and_not_converted(tmp_path):
    state = camera_state()
    state.pop("encoder_conv_in.bias")
    saved(state, tmp_path / "a.safetensors")
    info = inspect_motion_file(tmp_path / "a.safetensors")
    assert (info.what, info.guide) == ("a CameraCtrl model", None)
    with pytest.raises(MotionFileError) as caught:
        convert_motion_file(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
    assert caught.value.code == "AD-Q76"


def test_motion_modules_are_no_such_files(tmp_path):
    saved(random_motion_state("v3"), tmp_path / "a.safetensors")
    assert find_guide(tmp_path / "a.safetensors") is None
    assert inspect_motion_file(tmp_path / "a.safetensors").guide is None


def test_the_motion_files_of_hellomeme_are_plain_v3_modules(tmp_path):
    """MotionAdapters with one table for both attentions of a block, in a file without a config."""
    state = as_adapter(random_motion_state("v3"))
    assert any(name.endswith("pos_embed.pe") for name in state)
    saved(state, tmp_path / "hello_motion.safetensors")
    motion = load_motion_module(tmp_path / "hello_motion.safetensors")
    assert (motion.kind, motion.trained_length) == ("v3", 32)
    wanted = random_motion_state("v3", tables=False)
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in motion.state_dict().items())
