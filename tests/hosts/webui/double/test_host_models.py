"""Checkpoints as AUTOMATIC1111, reForge and Forge hold them."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from support.motions import read_once
from support.webui_double import host_models as held
from support.webui_double.denoiser import CONTEXT
from support.webui_double.double import shared
from torch import nn

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import inject
from motion_module.schedules import BetaSchedule

LINEAR = BetaSchedule("linear")
HOLDERS = (held.forge, held.reforge)


@pytest.fixture
def models(webui):
    return webui.module("compat.host_models")


@pytest.fixture
def unet(webui):
    return webui.checkpoint.model.diffusion_model


def test_the_kind_is_chosen_by_what_a_model_has(models, unet, webui):
    kinds = {name: getattr(models, name) for name in ("HostModel", "ReforgeModel", "ForgeModel")}
    for sd_model, name in (
        (webui.checkpoint, "HostModel"),
        (held.reforge(unet), "ReforgeModel"),
        (held.forge(unet), "ForgeModel"),
    ):
        found = models.host_model(sd_model)
        assert type(found) is kinds[name]
        assert found.unet is unet
    flow = held.forge(unet)
    flow.forge_objects.unet.model.predictor = SimpleNamespace(sigmas=torch.ones(1000), prediction_type="const")
    assert models.lacks_noise_levels(flow)
    assert not models.lacks_noise_levels(held.forge(unet))
    for unknown in (None, object(), SimpleNamespace(forge_objects=None), flow):
        with pytest.raises(Exception, match="AD-W23"):
            models.host_model(unknown)


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_module_s_noise_levels_are_all_tables_and_go_again(models, unet, holder):
    sd_model = holder(unet)
    levels = models.host_model(sd_model)._noise_levels
    before = levels.sigmas, levels.log_sigmas, getattr(sd_model, "alphas_cumprod", None)
    wanted = LINEAR.alphas_cumprod().double()
    with models.host_model(sd_model).use_schedule(LINEAR):
        sigmas = ((1 - wanted) / wanted).sqrt()
        torch.testing.assert_close(levels.sigmas.double(), sigmas, rtol=1e-6, atol=0)
        torch.testing.assert_close(levels.log_sigmas.double(), sigmas.log(), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(models.host_model(sd_model).alphas_cumprod.double(), wanted, rtol=1e-5, atol=1e-7)
        if before[2] is not None:
            torch.testing.assert_close(sd_model.alphas_cumprod.double(), wanted, rtol=1e-6, atol=0)
    assert levels.sigmas is before[0]
    assert levels.log_sigmas is before[1]
    assert getattr(sd_model, "alphas_cumprod", None) is before[2]


@pytest.mark.parametrize("by", ["user", "checkpoint"])
def test_zero_terminal_snr_is_on_top_of_the_module_s_levels(models, unet, by):
    sd_model = held.forge(unet)
    if by == "user":
        shared.opts.sd_noise_schedule = "Zero Terminal SNR"
    else:
        sd_model.model_config.ztsnr = True
    with models.host_model(sd_model).use_schedule(LINEAR):
        assert models.host_model(sd_model).alphas_cumprod[-1] < 1e-6


@pytest.mark.parametrize("holder", HOLDERS)
def test_the_host_makes_room_for_a_window_and_the_module(models, unet, holder):
    sd_model = holder(unet)
    own = sd_model.forge_objects.unet
    models.host_model(sd_model).expect_rows(16, 500)
    patcher = sd_model.forge_objects.unet
    estimate = patcher.model_options["memory_peak_estimation_modifier"]
    for estimates in (estimate, patcher.memory_required):  # Forge Neo asks the patcher alone
        assert (estimates([400, 4, 8, 8]), estimates([10, 4, 8, 8])) == (32, 10)
    assert own.memory_required([400, 4, 8, 8]) == 400
    assert (patcher.preserved, patcher.model is own.model) == (500, True)
    assert own.model_options == {"transformer_options": {}}
    assert own.preserved == 0


class Recorder(nn.Module):
    """A UNet that notes its calls."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))
        self.calls = []

    def forward(self, x, timesteps=None, context=None, transformer_options=None, **more):
        self.calls.append((x, timesteps, context, transformer_options, more))
        return x


def test_rows_are_numbered_in_each_window(models, unet, webui, monkeypatch):
    seen, motion = [], read_once(webui.models_folder / "mm.safetensors")
    forward = unet.forward

    def noted(x, timesteps, context, transformer_options=None):
        seen.append((len(x), transformer_options))
        return forward(x, timesteps, context)

    monkeypatch.setattr(unet, "forward", noted)
    options = {"cond_or_uncond": [1, 0], "uncond_indices": list(range(5)), "cond_indices": list(range(5, 10))}
    x, t, context = torch.randn(10, 4, 8, 8), torch.full((10,), 500), torch.randn(10, 7, CONTEXT)
    windows = ContextWindows(length=3, overlap=1)
    with (
        torch.no_grad(),
        models.host_model(held.forge(unet)).numbering_rows(),
        inject(unet, motion, frames=5, windows=windows),
    ):
        unet(x, t, context, transformer_options=options)
    assert seen
    for rows, given in seen:
        half = rows // 2
        assert given["uncond_indices"] == list(range(half))
        assert given["cond_indices"] == list(range(half, rows))
    assert options["cond_indices"] == list(range(5, 10))


@pytest.mark.parametrize("kind", ["plain", "sdxl"])
def test_a_call_outside_a_sampler_has_the_conditions_in_the_type_of_the_computation(models, monkeypatch, kind):
    unet, loaded = Recorder(), []
    monkeypatch.setattr(models, "import_module", lambda name: SimpleNamespace(load_model_gpu=loaded.append))
    sd_model, x, t = held.forge(unet), torch.randn(2, 4, 8, 8), torch.full((2,), 300.0)
    context = torch.randn(2, 7, 6)
    given = {"c_crossattn": [context]} if kind == "plain" else {"crossattn": context, "vector": torch.randn(2, 9)}
    found = models.host_model(sd_model).predicted(x, t, given, torch.zeros(2, 5, 1, 1))
    ((seen, timesteps, seen_context, options, more),) = unet.calls
    assert loaded == [sd_model.forge_objects.unet]
    assert {each.dtype for each in (seen, seen_context, *more.values())} == {torch.float16}
    assert torch.equal(timesteps, t)
    assert options == {}
    assert set(more) == ({"y"} if kind == "sdxl" else set())
    assert torch.equal(found, x.half().float())


def test_prompts_of_whole_streams_are_in_order(models, unet, webui):
    batching, forge, plain = (
        webui.module("clip.batching"),
        models.host_model(held.forge(unet)),
        models.host_model(webui.checkpoint),
    )
    assert batching.row_order(forge, [2, 2], 2) is None
    assert batching.row_order(plain, [2, 2], 2)(4) is not None
    assert not batching.splits_clips(forge, [5, 5])
    assert batching.splits_clips(plain, [5, 5])
    with pytest.raises(Exception, match="AD-W36"):
        batching.row_order(forge, [1, 1, 2, 2], 2)


@pytest.mark.parametrize("module", ["backend.nn.vae", "ldm_patched.ldm.modules.distributions.distributions"])
def test_their_vaes_encode_to_means_too(webui, monkeypatch, module):
    """Forge draws from the distribution with no seed, so that a video would begin from other latents each time."""

    class DiagonalGaussianDistribution:
        def sample(self):
            return "drawn"

        def mode(self):
            return "mean"

    kind = DiagonalGaussianDistribution
    monkeypatch.setitem(sys.modules, module, SimpleNamespace(DiagonalGaussianDistribution=kind))
    with webui.module("compat.a1111").encoding_means():
        assert kind().sample() == "mean"
    assert kind().sample() == "drawn"
