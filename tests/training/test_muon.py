"""Muon's updates, and which weights it is for."""

import copy

import pytest
import torch
from torch import nn

from lib_animatediff.training.muon import LIKE_ADAM, Muon, is_matrix, orthogonal
from tools.pocket.loop import Plan, train


@pytest.mark.parametrize("shape", [(20, 50), (50, 20), (30, 30)])
def test_an_update_has_singular_values_of_about_1(shape):
    matrix = torch.randn(*shape, generator=torch.Generator().manual_seed(1))
    found = orthogonal(matrix)
    assert found.shape == shape
    sizes = torch.linalg.svdvals(found)
    assert 0.6 < float(sizes.min()) <= float(sizes.max()) < 1.3
    assert float((found * matrix).sum()) > 0  # the same direction


def test_an_update_of_a_convolution_is_as_large_as_one_of_adamw():
    layer = nn.Conv2d(32, 64, 3, bias=False)
    before = layer.weight.detach().clone()
    layer.weight.grad = torch.randn_like(before)
    Muon([layer.weight], lr=0.01, weight_decay=0.0).step()
    change = (layer.weight.detach() - before) / 0.01
    assert float(change.square().mean().sqrt()) == pytest.approx(LIKE_ADAM, rel=0.2)


def test_it_takes_matrices_and_leaves_the_rest_to_adamw():
    layers = nn.Sequential(nn.Conv2d(3, 32, 3), nn.GroupNorm(32, 32), nn.Conv2d(32, 32, 3), nn.Linear(32, 32))
    assert [name for name, weight in layers.named_parameters() if is_matrix(weight)] == ["2.weight", "3.weight"]
    twins, how = copy.deepcopy(layers), {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.1}
    optimizers = Muon(layers.parameters(), **how), torch.optim.AdamW(twins.parameters(), **how)
    for _ in range(3):
        for weight, twin in zip(layers.parameters(), twins.parameters(), strict=True):
            weight.grad = twin.grad = torch.randn(weight.shape)
        for optimizer in optimizers:
            optimizer.step()
    for (name, weight), twin in zip(layers.named_parameters(), twins.parameters(), strict=True):
        assert torch.equal(weight, twin) is (name not in ("2.weight", "3.weight")), name


def test_one_without_matrices_is_adamw():
    layer = nn.GroupNorm(32, 32)
    assert [group["matrices"] for group in Muon(layer.parameters(), lr=0.1).param_groups] == [False]


def test_training_stopped_and_resumed_is_the_same(tmp_path):
    def trained(name, *stops):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(16, 16), nn.Linear(16, 16))
        inputs = torch.randn(8, 16, generator=torch.Generator().manual_seed(5))
        plan = Plan(name, 6, lambda step: 1e-2, 0.5, muon=True)
        for stop in stops:
            train(model, lambda step: (model(inputs) - inputs).square().mean(), plan, tmp_path / name, stop)
        return [weight.detach() for weight in model.parameters()]

    for mine, theirs in zip(trained("stopped", 2, 4, None), trained("whole", None), strict=True):
        assert torch.equal(mine, theirs)
