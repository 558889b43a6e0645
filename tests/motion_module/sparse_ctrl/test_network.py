"""The SparseCtrl encoder against a literal one, and against numbers of the official implementation."""

from __future__ import annotations

import math
from copy import deepcopy

import pytest
import torch
from support.sparse_ctrl import LENGTH, literal_residuals, shapes, shared_encoder

from motion_module.sparse_ctrl.network import EncoderLayout, SparseCtrl

KINDS = ("rgb", "scribble")
# mean of the absolute values, first and last value, of the official class (guoyww/AnimateDiff e92bd56), torch 2.13
OFFICIAL = {
    "rgb": {
        0: (0.093503, -0.094897, -0.080346),
        2: (2.464536, -3.924020, 1.219136),
        5: (2.374063, -0.780313, 2.131551),
        8: (0.615904, 0.314171, -0.326868),
        11: (0.108412, 0.178869, 0.177536),
        "middle": (0.291735, 0.505143, 0.505396),
    },
    "scribble": {
        0: (0.968714, 0.467658, -0.513500),
        2: (3.347907, 2.176662, 5.657490),
        5: (2.515248, 1.488270, 3.252699),
        8: (0.461713, -0.247479, -0.636683),
        11: (0.143576, 0.100090, 0.042362),
        "middle": (0.310655, 0.542357, 0.452829),
    },
}


def plain(_name, transformer, x):
    """All rows are one clip."""
    return transformer(x, len(x))


def of_one_clip(encoder, conditions, t, context, frames):
    """The encoder on one clip whose frames have the conditions of a dict."""
    embedded = encoder.embed(torch.stack(list(conditions.values())))
    places = list(conditions)
    index = [places.index(frame) if frame in places else -1 for frame in range(frames)]
    return encoder(embedded[index], t, context, plain)


def wave(shape, step):
    return torch.sin(step * torch.arange(math.prod(shape), dtype=torch.float64)).reshape(shape).float()


def official_weights(kind):
    """The fill of the facts: parameters in the order of their names, each a wave of its own."""
    state = {}
    for k, (name, shape) in enumerate(sorted(shapes(kind, (64, 64, 128, 128), 16).items())):
        count = math.prod(shape)
        waves = torch.sin(0.1 + 0.7 * torch.arange(count, dtype=torch.float64) + k).reshape(shape)
        if len(shape) >= 2:
            waves = waves * math.sqrt(2 * shape[0] / count)
        else:
            waves = 0.05 * waves + name.endswith("weight")
        state[name] = waves.float()
    return state


@pytest.mark.parametrize("kind", KINDS)
def test_it_computes_what_the_official_encoder_does(kind):
    state = official_weights(kind)
    assert len(state) == {"rgb": 476, "scribble": 490}[kind]
    encoder = SparseCtrl.from_state_dict(state, EncoderLayout(kind, (64, 64, 128, 128), 16, LENGTH))
    if kind == "rgb":
        made = wave((1, 4, 2, 16, 8), 0.05)
    else:
        made = (wave((1, 3, 2, 128, 64), 0.05) + 1) / 2
    conditions = {0: made[0, :, 0], 3: made[0, :, 1]}
    context = wave((1, 5, 16), 0.11).expand(4, -1, -1)
    skips, middle = of_one_clip(encoder, conditions, torch.full((4,), 500), context, 4)
    for place, (mean, first, last) in OFFICIAL[kind].items():
        got = middle if place == "middle" else skips[place]
        values = got.transpose(0, 1).flatten()  # c f h w
        measured = torch.stack([values.abs().mean(), values[0], values[-1]])
        assert torch.allclose(measured, torch.tensor([mean, first, last]), atol=2e-5), place


@pytest.mark.parametrize("kind", KINDS)
def test_it_equals_the_literal_encoder(kind):
    encoder, state = shared_encoder(kind)
    encoder, state = deepcopy(encoder).double(), {name: tensor.double() for name, tensor in state.items()}
    size = (4, 8, 16) if kind == "rgb" else (3, 64, 128)
    conditions = {1: torch.randn(size).double(), 4: torch.randn(size).double()}
    context, t = torch.randn(5, 7, 64).double(), torch.tensor([700, 700, 20, 700, 700])
    skips, middle = of_one_clip(encoder, conditions, t, context, 5)
    wanted_skips, wanted_middle = literal_residuals(state, conditions, t, context, 5)
    for got, wanted in zip([*skips, middle], [*wanted_skips, wanted_middle], strict=True):
        assert (got - wanted).abs().max() <= 1e-9


def test_a_frame_without_a_condition_has_neither_colours_nor_mask():
    encoder, state = shared_encoder("rgb")
    embedded = encoder.embed(torch.randn(2, 4, 8, 8))
    bias = state["controlnet_cond_embedding.bias"]
    assert len(embedded) == 3
    assert torch.allclose(embedded[-1], bias[:, None, None].expand(-1, 8, 8), atol=1e-6)
    black = encoder.embed(torch.zeros(1, 4, 8, 8))[0]  # a black image has a mask
    assert (black - embedded[-1]).abs().max() > 1e-3
