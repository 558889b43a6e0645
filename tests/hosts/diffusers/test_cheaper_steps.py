"""Guidance in an interval of the steps, and features reused over them, in clips of the built-in model."""

from __future__ import annotations

import pytest
import torch
from support.matrix import in_matrix
from support.pocket_clips import BLUE, CFG, RED, TINY, near, pixels
from support.unchanged import Portrait

from lib_animatediff import ClipError, Text2VideoZero, inject
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings

FRAMES, SEED, STEPS = 4, 3, 8


@pytest.fixture
def rows(pipeline):
    """Rows of each call that reaches the UNet's own layers."""
    seen = []
    with pipeline.unet.conv_in.register_forward_pre_hook(lambda _layer, args: seen.append(len(args[0]))):
        yield seen


@pytest.fixture
def middle(pipeline):
    """Rows of each call that reaches the middle block's own layers."""
    seen, layer = [], pipeline.unet.mid_block.resnets[0].conv1
    with layer.register_forward_pre_hook(lambda _layer, args: seen.append(len(args[0]))):
        yield seen


def by_hand(pipeline, motion, guided, steps, negative=BLUE):
    """A sampler's loop with guidance at some steps."""
    scheduler = host.new_sampler("ddim", pipeline.scheduler, motion.schedule)
    scheduler.set_timesteps(steps)
    cond, uncond = pipeline.encode_prompt(RED, "cpu", FRAMES, True, negative)
    generators = [torch.Generator().manual_seed(SEED + frame) for frame in range(FRAMES)]
    x = torch.stack([torch.randn(4, 8, 8, generator=each) for each in generators])
    with torch.no_grad(), inject(pipeline.unet, motion, frames=FRAMES):
        for number, t in enumerate(scheduler.timesteps):
            eps = pipeline.unet(x, t, encoder_hidden_states=cond).sample
            if number in guided:
                other = pipeline.unet(x, t, encoder_hidden_states=uncond).sample
                eps = other + CFG * (eps - other)
            x = scheduler.step(eps, t, x).prev_sample
        decoded = pipeline.vae.decode(x / pipeline.vae.config.scaling_factor).sample
    return pixels(pipeline.image_processor.postprocess(decoded, output_type="pil"))


@pytest.mark.parametrize(
    ("interval", "guided"),
    [
        in_matrix({"guidance_end": 0.6}, range(3)),
        in_matrix({"guidance_start": 0.2}, range(1, 5)),
        ({"guidance_start": 0.4, "guidance_end": 0.8}, (2, 3)),
    ],
)
def test_the_clip_is_the_one_of_a_loop_by_hand(clip, pipeline, motion, rows, interval, guided):
    got = clip(negative_prompt=BLUE, steps=5, **interval)
    assert rows == [FRAMES * (2 if step in guided else 1) for step in range(5)]
    assert near(got, by_hand(pipeline, motion, guided, 5))


def test_everywhere_is_bit_for_bit_the_clip_without_the_setting(clip, rows):
    plain = clip(size=TINY)
    assert torch.equal(clip(size=TINY, guidance_start=0, guidance_end=1), plain)
    assert torch.equal(clip(size=TINY, guidance_end=0.99), plain)  # switched by hand, at no step
    assert rows == [2 * FRAMES] * 6
    assert not torch.equal(clip(size=TINY, guidance_end=0.5), plain)


@pytest.mark.parametrize("prompt", [f"0: {RED}\n3: {BLUE}", f"({RED}:1.2)", " ".join([RED] * 20)])
def test_every_way_to_a_condition_is_switched(clip, rows, prompt):
    """Prompts that travel, weights, and more than one chunk of tokens are conditions before the pipeline runs."""
    plain = clip(prompt, size=TINY)
    rows.clear()
    assert torch.equal(clip(prompt, size=TINY, guidance_end=0.99), plain)
    got = clip(prompt, size=TINY, guidance_end=0.5)
    assert rows[2:] == [2 * FRAMES, FRAMES]
    assert not torch.equal(got, plain)


def test_each_run_of_freeinit_has_the_interval(clip, rows):
    clip(size=TINY, steps=4, guidance_end=0.5, freeinit_enable=True, freeinit_iters=2)
    assert rows == ([2 * FRAMES] * 2 + [FRAMES] * 2) * 2


def test_text2video_zero_counts_the_steps_of_the_whole_sampling(pipeline, rows):
    settings = parse_settings({"frames": FRAMES, "guidance_end": 0.5})
    gliding = Text2VideoZero(motion=(24.0, 0.0), begin=450, renoised=550)
    given = {"seed": SEED, "size": (64, 64), "cfg": CFG, "steps": 12}
    animate(pipeline, gliding, prompt=RED, settings=settings, **given)
    joined = next(number for number, count in enumerate(rows) if count > 2)
    left = len(rows) - joined
    assert rows[:joined] == [2 if step < 6 else 1 for step in range(joined)]
    assert rows[joined:] == [FRAMES * (2 if step < 6 else 1) for step in range(12 - left, 12)]


def test_without_guidance_there_is_nothing_to_switch(pipeline, motion, rows):
    settings = parse_settings({"frames": FRAMES, "guidance_end": 0.5})
    animate(pipeline, motion, prompt=RED, settings=settings, seed=SEED, size=(64, 64), cfg=1.0, steps=4)
    assert rows == [FRAMES] * 4


# --------------------------------------------------------------------------------------------------------------------
# features


def test_every_second_step_and_the_last_are_full(clip, middle, rows):
    plain = clip(size=TINY, steps=STEPS)
    assert torch.equal(clip(size=TINY, steps=STEPS, reuse=1), plain)
    assert len(middle) == 2 * STEPS
    middle.clear()
    got = clip(size=TINY, steps=STEPS, reuse=2)
    assert len(middle) == STEPS / 2
    assert not torch.equal(got, plain)
    assert torch.equal(clip(size=TINY, steps=STEPS, reuse=2, reuse_on_cpu=True), got)
    assert set(rows) == {2 * FRAMES}


def test_a_higher_branch_is_closer_to_the_clip_without_reuse(clip):
    plain = clip(size=TINY, steps=STEPS).float()
    distances = [(clip(size=TINY, steps=STEPS, reuse=2, reuse_branch=branch) - plain).abs().mean() for branch in (0, 5)]
    assert 0 < distances[1] < distances[0]


def test_each_run_of_freeinit_begins_anew(clip, middle):
    clip(size=TINY, steps=STEPS, reuse=2, freeinit_enable=True, freeinit_iters=2, freeinit_coarse=True)
    assert len(middle) == STEPS // 2 + STEPS // 2  # the first run has so few steps that all of them are full


def test_where_guidance_ends_everything_is_computed(clip, middle):
    clip(size=TINY, steps=STEPS, reuse=3, guidance_end=0.5)
    assert middle == [2 * FRAMES, 2 * FRAMES, FRAMES, FRAMES]  # steps 0, 3, 4, 7


def test_too_few_steps_are_refused(clip):
    with pytest.raises(ClipError, match=r"at least 8 sampling steps, not 7.*AD-C41"):
        clip(steps=7, reuse=2)


def test_text2video_zero_has_no_reuse(pipeline):
    settings = parse_settings({"reuse": 2})
    with pytest.raises(ClipError, match="cannot apply reuse"):
        animate(pipeline, Text2VideoZero(), prompt=RED, settings=settings)


@pytest.mark.parametrize("error", [None, KeyboardInterrupt])
def test_the_unet_is_what_it_was(clip, pipeline, motion, error):
    before = Portrait(pipeline.unet)

    def on_step():
        if error:
            raise error

    settings = parse_settings({"frames": FRAMES, "reuse": 2, "guidance_end": 0.5})
    given = {"prompt": RED, "size": (64, 64), "cfg": CFG, "steps": STEPS}
    try:
        animate(pipeline, motion, settings=settings, on_step=on_step, **given)
    except KeyboardInterrupt:
        assert error
    before.assert_unchanged()
