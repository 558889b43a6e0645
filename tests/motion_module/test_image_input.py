"""Files of PIA models: motion module and image input, in every form in circulation."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import SMALL_WIDTHS, adapter_config, as_adapter, in_whole_unet, random_motion_state
from support.pia import pia_motion, pia_state

from motion_module import MotionFileError, inspect_motion_file, load_motion_module
from motion_module.image_input import load_image_input


def official(folder):
    torch.save(pia_state(tables=True), folder / "pia.ckpt")
    return folder / "pia.ckpt"


def whole_unet(folder):
    state = {**in_whole_unet(random_motion_state("v3")), **pia_state(tables=True)}
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in state.items()}}, folder / "trained.pt")
    return folder / "trained.pt"


def adapter(folder):
    state = pia_state(tables=True)
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    other = {name: tensor for name, tensor in state.items() if name not in motion}
    folder = folder / "PIA-condition-adapter"
    folder.mkdir()
    save_file({**other, **as_adapter(motion)}, folder / "diffusion_pytorch_model.safetensors")
    config = {**adapter_config("v3", SMALL_WIDTHS), "conv_in_channels": 9}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("form", [official, whole_unet, adapter])
def test_every_form_gives_the_same_motion_module_and_image_input(tmp_path, form):
    path, state = form(tmp_path), pia_state()
    motion, wanted = load_motion_module(path, kind="pia"), pia_motion(state).state_dict()
    assert (motion.kind, motion.trained_length, motion.shared_resnet_norms) == ("pia", 32, True)
    assert motion.schedule.beta_end == 0.012
    assert motion.state_dict().keys() == wanted.keys()
    assert all(torch.equal(tensor, wanted[name]) for name, tensor in motion.state_dict().items())
    assert torch.equal(load_image_input(path), state["conv_in.weight"][:, 4:])


def test_without_its_kind_it_is_named_and_not_loaded(tmp_path):
    path = official(tmp_path)
    info = inspect_motion_file(path)
    assert info.what == "a PIA model"
    assert "--pia" in info.problem
    with pytest.raises(MotionFileError) as caught:
        load_motion_module(path)
    assert caught.value.code == "AD-F08"


def test_what_is_no_pia_model_is_refused(tmp_path):
    save_file(random_motion_state("v3"), tmp_path / "v3_sd15_mm.safetensors")
    with pytest.raises(MotionFileError) as caught:
        load_motion_module(tmp_path / "v3_sd15_mm.safetensors", kind="pia")
    assert caught.value.code == "AD-Q40"
    state = pia_state()
    state["conv_in.weight"][0, 0, 0, 0] = float("nan")
    save_file(state, tmp_path / "nan.safetensors")
    with pytest.raises(MotionFileError) as caught:
        load_image_input(tmp_path / "nan.safetensors")
    assert caught.value.code == "AD-Q41"
    short = {name: tensor for name, tensor in pia_state().items() if "up_blocks.3.motion_modules.2" not in name}
    save_file(short, tmp_path / "short.safetensors")
    with pytest.raises(MotionFileError) as caught:
        load_motion_module(tmp_path / "short.safetensors", kind="pia")
    assert caught.value.code == "AD-F15"
