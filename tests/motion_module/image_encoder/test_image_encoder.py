"""The image encoder of AnimateLCM-I2V: official numbers (G-U-N/AnimateLCM f873122), a literal one, and its files."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from safetensors.torch import save_file
from support.image_encoder import encoder_part, encoder_shapes, i2v_state, literal_features, shared_i2v
from support.motion_files import random_motion_state

from motion_module import MotionFileError, inspect_motion_file, load_image_encoder, load_motion_module
from motion_module.image_encoder.network import ImageEncoder

WIDTHS = (64, 64, 128, 128)
# sides; mean of the absolute values, first and last value; plain mean with a motion scale of 0; torch 2.13
OFFICIAL = (
    ((17, 9), (1.827515, 1.572838, -1.665859), 0.016662),
    ((9, 5), (1.728401, -2.662804, -2.428790), -0.004554),
    ((5, 3), (0.898736, -0.775017, 2.119738), 0.009381),
    ((3, 2), (1.149645, -1.274850, 1.711669), 0.008625),
)


@pytest.fixture(autouse=True)
def _without_gradients():
    with torch.no_grad():
        yield


def official_encoder():
    """The fill of the facts: parameters in the order of their names, each a wave of its own."""
    state = {}
    for k, (name, shape) in enumerate(sorted(encoder_shapes(WIDTHS).items())):
        count = math.prod(shape)
        waves = torch.sin(0.1 + 0.7 * torch.arange(count, dtype=torch.float64) + k).reshape(shape)
        state[name] = waves * math.sqrt(2 * shape[0] / count) if len(shape) > 1 else 0.05 * waves
        state[name] = (state[name] + (len(shape) == 1 and name.endswith("weight"))).float()
    return ImageEncoder.from_state_dict(encoder_part(state), WIDTHS)


def test_it_computes_what_the_official_encoder_does():
    image = torch.sin(0.21 * torch.arange(4 * 17 * 9, dtype=torch.float64)).reshape(4, 17, 9).float()
    moved, still = (official_encoder()(image, 3, drift) for drift in (0.8, 0.0))
    for feature, same, (sides, wanted, mean) in zip(moved, still, OFFICIAL, strict=True):
        assert feature.shape[2:] == sides
        values = feature.transpose(0, 1).flatten()
        measured = torch.stack([values.abs().mean(), values[0], values[-1]])
        assert torch.allclose(measured, torch.tensor(wanted), atol=2e-5)
        assert torch.equal(same[0], same[2])
        assert abs(same.mean() - mean) <= 2e-6


@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_it_equals_the_literal_encoder(size):
    _, encoder, state = shared_i2v()
    encoder, state = deepcopy(encoder).double(), {name: tensor.double() for name, tensor in state.items()}
    image = torch.randn(4, *size, dtype=torch.float64)
    for got, wanted in zip(encoder(image, 4, 0.7), literal_features(state, image, 4, 0.7), strict=True):
        assert (got - wanted).abs().max() <= 1e-6  # of the table, which is in single precision


def test_both_parts_of_a_file_load_in_its_spellings(tmp_path):
    state, path = i2v_state(), tmp_path / "file.safetensors"
    _, encoder, _ = shared_i2v()
    for prefix in ("", "module."):
        save_file({f"{prefix}{name}": tensor for name, tensor in state.items()}, path)
        motion = load_motion_module(path, kind="i2v")
        assert (motion.kind, motion.trained_length, motion.schedule.beta_end) == ("i2v", 64, 0.014)
        loaded = load_image_encoder(path)
        assert all(torch.equal(tensor, encoder.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    torch.save(state, tmp_path / "file.ckpt")
    assert load_image_encoder(tmp_path / "file.ckpt").widths == (32, 64, 128, 128)


def without(part):
    return {name: tensor for name, tensor in i2v_state().items() if part not in name}


WRONG = {
    "a motion module": (lambda: random_motion_state("lcm"), "AD-QB1"),
    "the encoder alone": (lambda: without("motion_modules"), "AD-QB1"),
    "a weight less": (lambda: without("body.5.block2.weight"), "AD-QB2"),
    "a level less": (lambda: without("body.6."), "AD-QB2"),
    "another shape": (lambda: i2v_state() | {"img_encoder.conv_in.bias": torch.ones(3)}, "AD-QB2"),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_no_such_model_is_refused_by_name(tmp_path, what):
    make, code = WRONG[what]
    save_file(make(), tmp_path / "file.safetensors")
    for load in (load_image_encoder, lambda path: load_motion_module(path, kind="i2v")):
        with pytest.raises(MotionFileError) as caught:
            load(tmp_path / "file.safetensors")
        assert caught.value.code == code


def test_as_a_plain_motion_module_it_is_refused_with_what_to_do(tmp_path):
    save_file(i2v_state(), tmp_path / "file.safetensors")
    with pytest.raises(MotionFileError, match="--i2v"):
        load_motion_module(tmp_path / "file.safetensors")
    assert inspect_motion_file(tmp_path / "file.safetensors").what == "an AnimateLCM-I2V model"
