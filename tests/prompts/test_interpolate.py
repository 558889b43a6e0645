"""Conditions between two keys, against a slerp that is written out token by token in float64."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lib_animatediff.prompts.interpolate import blend_rows, slerp
from lib_animatediff.prompts.travel import Blend, read_travel

TOKENS, WIDTH = 5, 12
DTYPES = [torch.float64, torch.float32, torch.bfloat16, torch.float16]
# Dividing by the sine of a small angle enlarges rounding up to thirty times; halves are computed in float32.
BOUNDS = {torch.float64: 1e-12, torch.float32: 3e-5, torch.bfloat16: 2**-8, torch.float16: 2**-11}


def literal_slerp(a, b, weight):
    """Shoemake's formula on two lists of numbers."""
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    lengths = math.hypot(*a) * math.hypot(*b)
    if lengths == 0 or abs(dot / lengths) > 0.9995:
        return literal_lerp(a, b, weight)
    angle = math.acos(dot / lengths)
    one, other = math.sin((1 - weight) * angle) / math.sin(angle), math.sin(weight * angle) / math.sin(angle)
    return [one * x + other * y for x, y in zip(a, b, strict=True)]


def literal_lerp(a, b, weight):
    return [x + weight * (y - x) for x, y in zip(a, b, strict=True)]


LITERAL = {"slerp": literal_slerp, "linear": literal_lerp, "step": lambda a, b, weight: a}


def literal_rows(cond, blends, interpolation):
    """Every frame, every token by itself."""
    rows = []
    for blend in blends:
        pairs = zip(cond[blend.first].tolist(), cond[blend.second].tolist(), strict=True)
        rows.append([LITERAL[interpolation](a, b, blend.weight) for a, b in pairs])
    return torch.tensor(rows, dtype=torch.float64)


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def close(one, other, dtype):
    """To the last bit or so of the dtype, on the scale of the numbers."""
    return (one.double() - other).abs().max() <= BOUNDS[dtype] * max(1.0, float(other.abs().max()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_slerp_is_that_of_the_formula(weight, dtype):
    a, b = random(TOKENS, WIDTH, dtype=dtype), 3 * random(TOKENS, WIDTH, dtype=dtype, seed=1)
    found = slerp(a, b, weight)
    wanted = [literal_slerp(x, y, weight) for x, y in zip(a.tolist(), b.tolist(), strict=True)]
    assert found.dtype == dtype
    assert close(found, torch.tensor(wanted, dtype=torch.float64), dtype)


def test_slerp_known_answers():
    x, y = torch.tensor([2.0, 0.0]), torch.tensor([0.0, 4.0])
    assert torch.allclose(slerp(x, y, 0.5), torch.tensor([1.0, 2.0]) * 2**0.5)
    assert torch.allclose(slerp(x, y, 1 / 3), torch.tensor([2 * 3**0.5 / 2, 4 * 0.5]))


@pytest.mark.parametrize(
    ("a", "b", "middle"),
    [
        ([1.0, 0.0], [3.0, 0.0], [2.0, 0.0]),
        ([1.0, 0.0], [3.0, 0.03], [2.0, 0.015]),
        ([1.0, 0.0], [-3.0, 0.0], [-1.0, 0.0]),
        ([0.0, 0.0], [0.0, 4.0], [0.0, 2.0]),
        ([0.0, 0.0], [0.0, 0.0], [0.0, 0.0]),
    ],
    ids=["parallel", "nearly", "opposite", "from nothing", "nothing"],
)
def test_where_there_is_no_arc_slerp_goes_straight(a, b, middle):
    assert torch.equal(slerp(torch.tensor(a), torch.tensor(b), 0.5), torch.tensor(middle))


def test_each_token_has_its_own_angle():
    """Flattened into one vector, as the existing extension has it, tokens would share one."""
    a, b = random(TOKENS, WIDTH), random(TOKENS, WIDTH, seed=1)
    together = slerp(a, b, 0.3)
    alone = torch.stack([slerp(a[token], b[token], 0.3) for token in range(TOKENS)])
    assert torch.equal(together, alone)
    assert not torch.allclose(together, slerp(a.flatten(), b.flatten(), 0.3).view_as(a))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("interpolation", ["slerp", "linear"])
@pytest.mark.parametrize("closed", [False, True])
def test_rows_are_those_of_the_formula(interpolation, closed, dtype):
    blends = read_travel("1: a\n4 ease-in: b\n6-7: c", 9).blends(interpolation, "ease-out", 0.1, closed)
    assert sum(0 < blend.weight < 1 for blend in blends) == 3 + (2 if closed else 0)
    cond = random(9, TOKENS, WIDTH, dtype=dtype)
    found = blend_rows(cond, blends, interpolation)
    assert found.dtype == dtype
    assert close(found, literal_rows(cond.double(), blends, interpolation), dtype)


@pytest.mark.parametrize("interpolation", ["slerp", "linear", "step"])
@pytest.mark.parametrize("shape", [(4, TOKENS, WIDTH), (4, WIDTH)])
def test_rows_that_are_all_of_one_prompt_are_taken_bit_for_bit(shape, interpolation):
    cond = random(*shape) * 1e3
    blends = [Blend(2, 3, 0.0), Blend(0, 1, 1.0), Blend(0, 1, 0.5), Blend(3, 3, 0.0)]
    found = blend_rows(cond, blends, interpolation)
    assert torch.equal(found[[0, 1, 3]], cond[[2, 1, 3]])
    assert torch.equal(found[2], cond[0]) == (interpolation == "step")


def test_the_given_rows_stay_as_they_are():
    cond = random(3, TOKENS, WIDTH)
    for blends in ([Blend(0, 2, 0.5)] * 3, [Blend(2, 2, 0.0)] * 3):
        blend_rows(cond, blends, "slerp").zero_()
        assert torch.equal(cond, random(3, TOKENS, WIDTH))


@pytest.mark.parametrize("interpolation", ["slerp", "linear"])
@pytest.mark.parametrize("dtype", DTYPES)
@given(weight=st.floats(0.01, 0.99), seed=st.integers(0, 1000))
@settings(max_examples=40, deadline=None)
def test_a_vector_keeps_what_both_keys_agree_on(interpolation, dtype, weight, seed):
    """SDXL's: the prompt's summary, and behind it numbers that stand for the picture's size."""
    cond = random(3, WIDTH, dtype=dtype, seed=seed)
    assume((cond[0] != cond[2]).all())  # in bfloat16 two random numbers may be equal
    cond[:, WIDTH // 2 :] = cond[0, WIDTH // 2 :] * 100
    found = blend_rows(cond, [Blend(0, 0, 0.0), Blend(0, 2, weight), Blend(2, 2, 0.0)], interpolation)
    assert torch.equal(found[:, WIDTH // 2 :], cond[:, WIDTH // 2 :])
    one, other = (cond[row, : WIDTH // 2].tolist() for row in (0, 2))
    wanted = torch.tensor(LITERAL[interpolation](one, other, weight), dtype=torch.float64)
    assert close(found[1, : WIDTH // 2], wanted, dtype)
