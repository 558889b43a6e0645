"""Guidance in an interval of the steps, and features reused over them, through the WebUI's hooks."""

from __future__ import annotations

import itertools
import math
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from support.matrix import every_once, in_matrix, only_at
from support.unchanged import Portrait
from support.webui_double import double
from support.webui_double.double import CLIP, SIDE, shared

FRAMES, STEPS = CLIP["frames"], 8
HALF = {"guidance_end": 0.5}
HIRES = {"enable_hr": True}
IMG2IMG = {"tab": "img2img", "init_images": [Image.new("RGB", (SIDE, SIDE))]}
FIELD = "Skip Early CFG"


@pytest.fixture(autouse=True)
def _several_steps(webui):
    shared.steps = STEPS


FEW = 4


@pytest.fixture
def few_steps(_several_steps):
    """Enough for an interval of them."""
    shared.steps = FEW


def painted(webui, *args, **fields):
    """The latents of a request, and its p."""
    p, latents = webui.request(*args, **fields), []
    sample = p.sample
    p.sample = lambda **given: latents.append(sample(**given)) or latents[-1]
    double.process_images(p)
    return torch.stack(list(latents[0])), p


def without_uncond_at(steps):
    """A callback after ours, as if the user moved the option of the WebUI during the sampling."""

    def callback(params):
        vars(shared.opts)["skip_early_cond"] = 1.0 if params.denoiser.step in steps else 0.0

    shared.cfg_denoiser_callbacks.append(callback)


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        ({}, range(4)),
        in_matrix({"guidance_start": 0, "guidance_end": 1}, range(4)),
        (HALF, range(2)),
        in_matrix({"guidance_start": 0.25}, range(1, 4)),
        ({"guidance_start": 0.25, "guidance_end": 0.6}, range(1, 3)),
    ],
)
def test_outside_the_interval_only_the_rows_of_cond_reach_the_unet(webui, few_steps, interval, guided):
    webui.paint(CLIP | interval)
    assert shared.calls == [FRAMES * (2 if step in guided else 1) for step in range(FEW)]
    assert shared.image_rows == shared.calls  # of checkpoints for inpainting


def test_the_first_step_is_without_cfg_where_the_option_does_not_reach_it(webui, few_steps):
    shared.guides_first_step = True
    webui.paint(CLIP | {"guidance_start": 0.5})
    assert shared.calls == [FRAMES, FRAMES, 2 * FRAMES, 2 * FRAMES]


@pytest.mark.parametrize(
    ("is_batched", "fields", "prompt"),
    every_once([False, True], [{}, HIRES, IMG2IMG], ["a cat AND a dog", "a cat"]),
)
def test_the_clip_is_the_one_of_the_webuis_own_option(webui, prompt, fields, is_batched):
    shared.steps, shared.opts.batch_cond_uncond = 2, is_batched
    got, _ = painted(webui, CLIP | HALF, prompt=prompt, batch_size=2, **fields)
    calls, shared.calls = shared.calls, []
    without_uncond_at([1])
    wanted, _ = painted(webui, CLIP, prompt=prompt, batch_size=2, **fields)
    del vars(shared.opts)["skip_early_cond"]
    assert torch.equal(got, wanted)
    assert calls == shared.calls


def test_at_cfg_1_uncond_is_not_computed_since_it_changes_nothing(webui, few_steps, monkeypatch):
    got, p = painted(webui, CLIP, cfg_scale=1)
    assert shared.calls == [FRAMES] * FEW
    assert FIELD not in p.extra_generation_params
    monkeypatch.setattr(webui.module("hooks.sampling_wrapper"), "can_leave_out_uncond", lambda: False)
    shared.calls = []
    wanted, _ = painted(webui, CLIP, cfg_scale=1)
    assert shared.calls == [2 * FRAMES] * FEW
    assert torch.allclose(got, wanted, atol=1e-5)


def test_at_cfg_1_a_prompt_of_several_parts_needs_uncond(webui, few_steps):
    webui.paint(CLIP, prompt="a cat AND a dog", cfg_scale=1)
    assert shared.calls == [3 * FRAMES] * FEW


def test_everywhere_is_bit_for_bit_the_clip_without_the_setting(webui, few_steps):
    plain, _ = painted(webui, CLIP)
    assert torch.equal(painted(webui, CLIP | {"guidance_start": 0, "guidance_end": 1})[0], plain)
    assert torch.equal(painted(webui, CLIP | {"guidance_end": 0.99})[0], plain)
    assert not torch.equal(painted(webui, CLIP | HALF)[0], plain)


@pytest.mark.parametrize(
    ("users", "said", "error"),
    only_at(itertools.chain(*(((0.0, None, error), (0.2, 0.2, error)) for error in (None, KeyboardInterrupt))), 0, 3),
)
def test_the_users_option_and_the_infotext_are_what_they_were(webui, users, said, error):
    shared.opts.skip_early_cond = users

    def fail(params):
        if error and params.denoiser.step == 5:
            raise error

    shared.cfg_denoiser_callbacks.append(fail)
    p = webui.request(CLIP | HALF)
    if error:
        with pytest.raises(error):
            double.process_images(p)
    else:
        double.process_images(p)
    assert shared.opts.skip_early_cond == users
    assert "skip_early_cond" not in vars(shared.opts)
    assert p.extra_generation_params.get(FIELD) == said
    early = math.floor(users * STEPS) + 1 if users else 0
    assert shared.calls[:5] == [FRAMES * (1 if step < early or step >= 4 else 2) for step in range(5)]


def test_a_webui_without_the_option_is_refused(webui):
    del shared.opts.data["skip_early_cond"]
    with pytest.raises(Exception, match=r"guidance_start to 0.*AD-W31"):
        webui.paint(CLIP | HALF)


def test_an_interval_that_ends_before_it_begins_is_refused(webui):
    with pytest.raises(Exception, match=r"no step would have CFG.*AD-C42"):
        webui.paint(CLIP | {"guidance_start": 0.6, "guidance_end": 0.5})


# --------------------------------------------------------------------------------------------------------------------
# features


@pytest.fixture
def middle(checkpoint):
    """Rows of each call of the middle block, by the step."""
    seen, unet = [], checkpoint.model.diffusion_model
    layer = unet.middle_block[0].in_layers[2]
    with layer.register_forward_pre_hook(lambda _layer, inputs: seen.append(len(inputs[0]))):
        yield seen


@pytest.mark.parametrize(("fields", "is_batched"), every_once([{}, HIRES, IMG2IMG], [True, False]))
def test_every_second_step_and_the_last_are_full(webui, middle, fields, is_batched):
    shared.opts.batch_cond_uncond = is_batched
    webui.paint(CLIP | {"reuse": 2}, **fields)
    at_a_step = [2 * FRAMES] if is_batched else [FRAMES, FRAMES]
    assert middle == at_a_step * 4 * (2 if fields is HIRES else 1)


def test_without_reuse_the_clip_is_bit_for_bit_what_it_was(webui, middle):
    plain, _ = painted(webui, CLIP)
    assert torch.equal(painted(webui, CLIP | {"reuse": 1})[0], plain)
    assert len(middle) == 2 * STEPS
    assert not torch.equal(painted(webui, CLIP | {"reuse": 2})[0], plain)


def test_where_guidance_ends_everything_is_computed(webui, middle):
    webui.paint(CLIP | {"reuse": 3, "guidance_end": 0.5})
    assert middle == [2 * FRAMES, 2 * FRAMES, FRAMES, FRAMES]  # steps 0, 3, 4, 7


def test_where_a_prompt_changes_everything_is_computed(webui, middle):
    entry = SimpleNamespace
    part = SimpleNamespace(schedules=[entry(end_at_step=4), entry(end_at_step=STEPS)])
    shared.conds = {"cond": SimpleNamespace(batch=[[part]]), "uncond": [[entry(end_at_step=STEPS)]]}
    webui.paint(CLIP | {"reuse": 4})
    assert len(middle) == 3  # steps 0, 5 and 7


def test_too_few_steps_are_refused_and_a_short_pass_is_noted(webui, middle):
    with pytest.raises(Exception, match=r"at least 8 sampling steps, not 7.*AD-C41"):
        webui.paint(CLIP | {"reuse": 2}, steps=7)
    shared.steps = 4
    p, notes = webui.request(CLIP | {"reuse": 2}, **IMG2IMG), []
    p.denoising_strength = 0.2
    sample = p.sample
    p.sample = lambda **given: (sample(**given), notes.extend(webui.our_script("img2img").session.notes))[0]
    double.process_images(p)
    assert len(middle) == 4
    assert any("reuse has no effect in this clip, since 5 steps are too few" in str(note) for note in notes)


def test_the_model_is_what_it_was(webui, checkpoint):
    before, picture = Portrait(checkpoint), webui.picture()
    webui.paint(CLIP | {"reuse": 2} | HALF)

    def fail(params):
        if params.denoiser.step == 3:
            raise KeyboardInterrupt

    shared.cfg_denoiser_callbacks.append(fail)
    with pytest.raises(KeyboardInterrupt):
        webui.paint(CLIP | {"reuse": 2} | HALF)
    shared.cfg_denoiser_callbacks.remove(fail)
    before.assert_unchanged()
    assert webui.picture() == picture
