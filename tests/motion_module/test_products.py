"""Products of tokens with weights, by oneDNN and by torch's linear layer."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from motion_module import products

TOKENS, INPUTS, OUTPUTS = (2, 3, 5), 48, 40


@pytest.fixture(params=["oneDNN", "F.linear"])
def way(request, monkeypatch):
    if request.param == "F.linear":
        monkeypatch.setattr(products, "_ONEDNN", None)
    elif products._ONEDNN is None:
        pytest.skip("this torch has no oneDNN operator")


def numbers(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def test_products_are_those_of_a_linear_layer(way):
    x, weight, bias = numbers(*TOKENS, INPUTS, seed=0), numbers(OUTPUTS, INPUTS, seed=1), numbers(OUTPUTS, seed=2)
    exact = F.linear(x.double(), weight.double(), bias.double())
    near = {"rtol": 1e-5, "atol": 1e-5}
    torch.testing.assert_close(products.linear(x, weight, bias).double(), exact, **near)
    torch.testing.assert_close(products.linear(x, weight).double(), exact - bias.double(), **near)
    torch.testing.assert_close(products.gelu_linear(x, weight, bias).double(), F.gelu(exact), **near)
    onto = numbers(*TOKENS, OUTPUTS, seed=3)
    wanted, place = onto.double() + exact, onto.data_ptr()
    products.add_linear(onto, x, weight, bias)
    torch.testing.assert_close(onto.double(), wanted, **near)
    assert onto.data_ptr() == place


def test_gradients_mixed_precision_and_other_types_take_torch_s_layer(monkeypatch):
    def refuse(*_):
        raise AssertionError

    monkeypatch.setattr(products, "_ONEDNN", refuse)
    x, weight = numbers(4, INPUTS, seed=0), numbers(OUTPUTS, INPUTS, seed=1).requires_grad_()
    products.linear(x, weight).sum().backward()
    assert weight.grad is not None
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            assert products.linear(x, weight).dtype == torch.bfloat16
        assert products.linear(x.double(), weight.double()).dtype == torch.float64
        if products.torch.backends.mkldnn.is_available():
            with pytest.raises(AssertionError):
                products.linear(x, weight)
