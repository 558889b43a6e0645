"""On a graphics card: the same motion in half precision, a model as it was, no waiting, and memory that runs out."""

from __future__ import annotations

from contextlib import nullcontext
from copy import deepcopy

import pytest
import torch
from support.motions import shared_motion
from support.pocket_clips import RED, new_motion, new_pipeline, pixels
from support.unchanged import Portrait

from lib_animatediff import ContextWindows, inject
from lib_animatediff.hosts.diffusers.animate import animate
from motion_module.temporal_transformer import TemporalTransformer

pytestmark = pytest.mark.card
FRAMES = 8
HALVES = [torch.float16, torch.bfloat16]
CLOSE = {torch.float16: 2e-2, torch.bfloat16: 1e-1}


@pytest.fixture
def unet(unets, card):
    return deepcopy(unets["ldm", 4]).to(card)


def called(unet, frames=FRAMES):
    like = next(unet.parameters())
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(2 * frames, 4, 8, 8, generator=generator).to(like.device)
    context = torch.randn(2 * frames, 77, 64, generator=generator).to(like.device)
    return lambda: unet(rows, torch.full((2 * frames,), 500, device=like.device), context=context)


@torch.no_grad()
@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_half_precision_is_near_to_full(card, dtype):
    torch.manual_seed(0)
    transformer = TemporalTransformer(64, 32).eval()
    x = torch.randn(2 * FRAMES, 64, 8, 8)
    wanted = transformer(x, FRAMES)
    found = transformer.to(card, dtype)(x.to(card, dtype), FRAMES)
    assert found.dtype == dtype
    assert (found.float().cpu() - wanted).abs().max() < CLOSE[dtype]


@torch.no_grad()
@pytest.mark.parametrize("autocast", [None, *HALVES], ids=str)
def test_a_call_on_the_card_is_that_of_the_processor_and_leaves_the_model_as_it_was(unets, unet, card, autocast):
    motion = shared_motion("v2")[0]
    with inject(unets["ldm", 4], motion, frames=FRAMES):
        wanted = called(unets["ldm", 4])()
    before = Portrait(unet)
    half = torch.autocast(card.type, autocast) if autocast else nullcontext()
    with inject(unet, motion, frames=FRAMES), half:
        found = called(unet)()
    assert (found.float().cpu() - wanted).abs().max() < CLOSE.get(autocast, 1e-3)
    before.assert_unchanged()


@torch.no_grad()
def test_a_call_in_windows_does_not_wait_for_the_card(unet, cuda):
    windows = ContextWindows(length=FRAMES, overlap=2)
    call = called(unet, 2 * FRAMES)
    with inject(unet, shared_motion("v2")[0], frames=2 * FRAMES, windows=windows) as injection:
        injection.step, injection.timestep = 0, 500
        call()
        torch.cuda.set_sync_debug_mode("error")
        try:
            call()
        finally:
            torch.cuda.set_sync_debug_mode("default")


@torch.no_grad()
def test_when_memory_runs_out_the_motion_goes_on_in_chunks(unet, cuda, monkeypatch, caplog):
    motion, call = shared_motion("v2")[0], called(unet)
    with inject(unet, motion, frames=FRAMES):
        wanted = call()
    real, failed = TemporalTransformer.forward, []

    def forward(self, x, frames, options):
        if options.pieces == 1 and not failed:
            failed.append(True)
            torch.empty(10**15, dtype=torch.uint8, device=cuda)  # more than any card has
        return real(self, x, frames, options)

    monkeypatch.setattr(TemporalTransformer, "forward", forward)
    with inject(unet, motion, frames=FRAMES):
        found = call()
    assert failed
    assert "Memory ran out in the motion module" in caplog.text
    assert (found - wanted).abs().max() < 1e-4


def test_a_clip_on_the_card_is_that_of_the_processor(pipeline, motion, card):
    asked = {"prompt": RED, "seed": 3, "frames": FRAMES, "size": (64, 64), "steps": 8, "cfg": 3.0}
    wanted = pixels(animate(pipeline, motion, **asked))
    found = pixels(animate(new_pipeline().to(card), new_motion(), **asked))
    assert (found.int() - wanted.int()).abs().max() <= 4
