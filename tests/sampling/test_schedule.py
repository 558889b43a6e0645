"""The noise levels of a motion module's training, and their stay in a model."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from lib_animatediff import use_schedule
from lib_animatediff.sampling.schedule import rescaled_to_zero_snr
from motion_module.schedules import LINEAR, SCALED_LINEAR

SCHEDULES = {"linear": LINEAR, "scaled_linear": SCALED_LINEAR}


@pytest.fixture
def model():
    return SimpleNamespace(alphas_cumprod=torch.linspace(1, 0.01, 1000))


@pytest.mark.parametrize(
    ("name", "middle", "last", "sigma_max"),
    [("linear", 0.160772, 0.00157896, 25.1461), ("scaled_linear", 0.276333, 0.0046601, 14.6146)],
)
def test_the_tables_have_the_published_values(name, middle, last, sigma_max):
    table = SCHEDULES[name].alphas_cumprod()
    assert table.shape == (1000,)
    assert table.dtype == torch.float32
    got = [table[0].item(), table[500].item(), table[-1].item(), ((1 - table[-1]) / table[-1]).sqrt().item()]
    assert got == pytest.approx([0.99915, middle, last, sigma_max], rel=1e-5)


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_tables_are_those_of_diffusers(name):
    from diffusers import DDIMScheduler

    theirs = DDIMScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule=name).alphas_cumprod
    torch.testing.assert_close(SCHEDULES[name].alphas_cumprod(), theirs, rtol=1e-5, atol=0)


def test_the_model_has_the_table_inside_and_its_own_object_afterwards(model):
    former = model.alphas_cumprod
    with use_schedule(model, LINEAR):
        assert torch.equal(model.alphas_cumprod, LINEAR.alphas_cumprod())
    assert model.alphas_cumprod is former
    with use_schedule(model, LINEAR, adjust=lambda table: table / 2):  # by the host
        assert torch.equal(model.alphas_cumprod, LINEAR.alphas_cumprod() / 2)
    with pytest.raises(KeyboardInterrupt), use_schedule(model, LINEAR):
        raise KeyboardInterrupt
    assert model.alphas_cumprod is former
    with pytest.raises(ZeroDivisionError), use_schedule(model, LINEAR, adjust=lambda table: 1 // 0):
        pass
    assert model.alphas_cumprod is former


def test_writing_into_the_table_inside_reaches_neither_the_former_one_nor_the_next(model):
    """As loading a checkpoint's weights does: it copies into whatever tensor stands there."""
    former, table = model.alphas_cumprod.clone(), LINEAR.alphas_cumprod().clone()
    with use_schedule(model, LINEAR):
        model.alphas_cumprod.zero_()
    assert torch.equal(model.alphas_cumprod, former)
    with use_schedule(model, LINEAR):
        assert torch.equal(model.alphas_cumprod, table)


@pytest.mark.parametrize("moved", [lambda t: t, lambda t: t.double()], ids=["as it is", "cast"])
def test_weights_without_a_table_that_are_loaded_inside_do_not_take_ours_for_their_own(model, moved):
    """The WebUI keeps what stands in the model after loading as the checkpoint's table."""
    own = model.alphas_cumprod_original = model.alphas_cumprod
    with use_schedule(model, LINEAR):
        model.alphas_cumprod_original = moved(model.alphas_cumprod)
    assert model.alphas_cumprod_original is own


def test_weights_with_a_table_that_are_loaded_inside_keep_it(model):
    model.alphas_cumprod_original = model.alphas_cumprod
    with use_schedule(model, LINEAR):
        model.alphas_cumprod.copy_(torch.linspace(1, 0.5, 1000))
        model.alphas_cumprod_original = model.alphas_cumprod
    assert torch.equal(model.alphas_cumprod_original, torch.linspace(1, 0.5, 1000))


def test_a_registered_buffer_stays_one():
    model = torch.nn.Module()
    model.register_buffer("alphas_cumprod", torch.linspace(1, 0.01, 1000))
    with use_schedule(model, LINEAR):
        assert torch.equal(model.state_dict()["alphas_cumprod"], LINEAR.alphas_cumprod())
    assert [name for name, _ in model.named_buffers()] == ["alphas_cumprod"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_a_rescaled_table_ends_without_signal_and_is_diffusers_own_before(dtype):
    from diffusers.schedulers.scheduling_ddim import rescale_zero_terminal_snr

    table = LINEAR.alphas_cumprod().to(dtype)
    given = table.clone()
    rescaled = rescaled_to_zero_snr(table)
    betas = torch.cat([1 - table[:1], 1 - table[1:] / table[:-1]]).double()
    wanted = torch.cumprod(1 - rescale_zero_terminal_snr(betas), 0)
    tolerance = {"rtol": 1e-3, "atol": 1e-6} if dtype == torch.float32 else {"rtol": 0.05, "atol": 1e-2}
    torch.testing.assert_close(rescaled[:-1].double(), wanted[:-1], **tolerance)
    assert rescaled[-1] == torch.tensor(4.8973451890853435e-08, dtype=dtype)
    assert torch.equal(table, given)
