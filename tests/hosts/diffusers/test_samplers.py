"""Samplers and distilled modules: latents and timesteps that reach the UNet are those of diffusers and model cards."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from types import SimpleNamespace

import diffusers
import pytest
import torch
from support.matrix import every_once, in_matrix
from support.pocket_clips import RED, TINY, near, pixels

from lib_animatediff import ClipError
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.noise import share_step_noise
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS, check_sampler, new_sampler
from lib_animatediff.request.distilled import DISTILLATIONS, TRAILING
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.sampling.frame_noise import shared_noise
from motion_module import load_motion_module

FRAMES, STEPS = 2, 4
LEVELS = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
LEADING = LEVELS | {"timestep_spacing": "leading", "steps_offset": 1}
TRAILED = LEVELS | {"timestep_spacing": "trailing"}
# As model cards and the official configurations make them, with arguments of the pipeline.
CARDS = {
    ("ddim", None): (diffusers.DDIMScheduler(**LEADING, clip_sample=False), {}),
    ("ddim", TRAILING): (diffusers.DDIMScheduler(**TRAILED, clip_sample=False), {}),
    ("euler", None): (diffusers.EulerDiscreteScheduler(**LEADING), {}),
    ("euler", TRAILING): (diffusers.EulerDiscreteScheduler(**TRAILED), {}),
    ("euler-a", TRAILING): (diffusers.EulerAncestralDiscreteScheduler(**TRAILED), {}),
    ("dpm++2m", TRAILING): (diffusers.DPMSolverMultistepScheduler(**TRAILED), {}),
    ("dpm++2m-sde", None): (diffusers.DPMSolverMultistepScheduler(**LEADING, algorithm_type="sde-dpmsolver++"), {}),
    ("lcm", None): (diffusers.LCMScheduler(**LEVELS), {}),
    ("lcm", TRAILING): (diffusers.LCMScheduler(**LEVELS), {"timesteps": [999, 749, 499, 249]}),
    ("tcd", None): (diffusers.TCDScheduler(**LEVELS), {"eta": 0.3}),
}

TWICE = [("ddim", TRAILING), ("euler", None), ("lcm", TRAILING)]  # samplers with both spacings, and each is shown


@pytest.fixture
def reaching(pipeline):
    """Latents and timesteps of each call that reaches the UNet inside the block, and the scheduler beside it."""

    @contextmanager
    def reaching():
        calls = []

        def note(_unet, args, _kwargs):
            calls.append(
                SimpleNamespace(latents=args[0].clone(), timestep=float(args[1]), scheduler=pipeline.scheduler)
            )

        with pipeline.unet.register_forward_pre_hook(note, with_kwargs=True):
            yield calls

    return reaching


@pytest.fixture
def still(pipeline, motion, reaching):
    """Frames of a clip without motion, so that each is the pipeline's image of its seed, and the calls of the UNet."""

    def still(*, frames=FRAMES, cfg=1.0, steps=STEPS, motion=motion, seed=3, **given):
        settings = parse_settings({"effect": 0} | given.pop("settings", {}))
        with reaching() as calls:
            images = animate(
                pipeline,
                motion,
                prompt=RED,
                seed=seed,
                frames=frames,
                settings=settings,
                size=TINY,
                cfg=cfg,
                steps=steps,
                **given,
            )
        return pixels(images), calls

    return still


def by_diffusers(pipeline, scheduler, **more):
    former, pipeline.scheduler = pipeline.scheduler, scheduler
    steps = {} if "timesteps" in more else {"num_inference_steps": STEPS}
    generators = [torch.Generator().manual_seed(3 + frame) for frame in range(FRAMES)]
    try:
        return pipeline(
            RED,
            num_images_per_prompt=FRAMES,
            generator=generators,
            width=TINY[0],
            height=TINY[1],
            guidance_scale=1.0,
            **steps,
            **more,
        ).images
    finally:
        pipeline.scheduler = former


@pytest.mark.parametrize(
    "pair",
    [pytest.param(pair, marks=pytest.mark.matrix) if pair in TWICE else pair for pair in CARDS],
    ids=lambda pair: "-".join(filter(None, pair)),
)
def test_each_sampler_steps_as_diffusers_own(pipeline, still, reaching, pair):
    """The same latents to 1e-5 and timesteps at each step: noise levels, order, noise of each frame and step."""
    sampler, spacing = pair
    scheduler, more = CARDS[pair]
    with reaching() as expected:
        images = by_diffusers(pipeline, scheduler, **more)
    frames, calls = still(sampler=sampler, spacing=spacing)
    assert [call.timestep for call in calls] == [call.timestep for call in expected]
    assert len(calls) == STEPS
    for ours, theirs in zip(calls, expected, strict=True):
        assert torch.allclose(ours.latents, theirs.latents, atol=1e-5, rtol=1e-5)
    assert near(frames, pixels(images))


def test_every_sampler_is_compared():
    assert {name for name, _ in CARDS} == SAMPLERS.keys()


@pytest.mark.parametrize("row", DISTILLATIONS, ids=lambda row: row.name)
def test_a_distilled_file_gets_the_timesteps_of_its_training(pipeline, motion, row):
    """Every k-th of LCM's 50 timesteps, or trailing ones."""
    steps = row.best_steps
    for sampler, spacing in row.pairs:
        scheduler = new_sampler(sampler, pipeline.scheduler, motion.schedule, spacing)
        scheduler.set_timesteps(steps)
        if spacing is None:
            trained = [999 - 20 * (step * 50 // steps) for step in range(steps)]
        else:
            trained = [round(1000 - step * 1000 / steps) - 1 for step in range(steps)]
        found = [int(timestep) for timestep in scheduler.timesteps]
        # LCM rounds down where 1000 is no multiple of the steps.
        assert all(0 <= ours - theirs <= 1 for ours, theirs in zip(found, trained, strict=True)), (found, trained)
        assert found[0] == 999
        assert scheduler.config.beta_schedule == motion.schedule.name
    if steps == 4 and spacing == TRAILING:
        assert found == [999, 749, 499, 249]


@pytest.mark.parametrize(("cfg", "streams"), [(0.0, 1), (1.0, 1), (1.5, 2), in_matrix(7.5, 2)])
def test_at_cfg_1_only_the_prompt_is_computed(still, cfg, streams):
    _, calls = still(sampler="lcm", cfg=cfg, steps=2)
    assert [len(call.latents) for call in calls] == [streams * FRAMES] * 2


# --------------------------------------------------------------------------------------------------------------------
# the noise of each step


@pytest.mark.parametrize("sampler", [in_matrix("lcm"), in_matrix("tcd"), in_matrix("euler-a"), "dpm++2m-sde"])
def test_a_frame_has_its_own_noise_at_each_step_in_clips_of_any_length(still, sampler):
    short, calls = still(sampler=sampler)
    long, longer = still(sampler=sampler, frames=2 * FRAMES)
    for one, other in zip(calls, longer, strict=True):
        assert torch.allclose(one.latents, other.latents[:FRAMES], atol=1e-4)
        assert not torch.allclose(other.latents[0], other.latents[1], atol=0.1)
    assert near(short, long[:FRAMES])
    assert torch.equal(still(sampler=sampler)[0], short)
    assert not near(still(sampler=sampler, seed=4)[0], short)


@pytest.mark.parametrize(
    ("sampler", "noise"),
    every_once(["lcm", "euler-a", "dpm++2m-sde"], [{"noise": "constant"}, {"noise": "shared", "noise_share": 1}]),
)
def test_frames_with_the_same_noise_stay_the_same_at_each_step(still, sampler, noise):
    frames, calls = still(sampler=sampler, settings=noise)
    assert all(torch.allclose(call.latents[0], call.latents[1], atol=1e-5) for call in calls)
    assert near(frames[:1], frames[1:])


def test_shared_noise_is_mixed_at_each_step_as_at_the_beginning(pipeline, motion):
    """LCM at images of zero: what is left is the noise."""
    seeds, share = range(5, 8), 0.4
    generators, own = ([torch.Generator().manual_seed(seed) for seed in seeds] for _ in range(2))
    scheduler = new_sampler("lcm", pipeline.scheduler, motion.schedule)
    scheduler.set_timesteps(3)
    share_step_noise(scheduler, generators, share)
    nothing = torch.zeros(3, 4, 8, 8)
    for step in (0, 1):
        after = scheduler.step(nothing, scheduler.timesteps[step], nothing, generator=generators).prev_sample
        sigma = (1 - scheduler.alphas_cumprod[scheduler.timesteps[step + 1]]).sqrt()
        drawn = torch.cat([torch.randn(1, 4, 8, 8, generator=generator) for generator in own])
        assert torch.allclose(after, sigma * shared_noise(drawn, None, share), atol=1e-6)
    stranger = torch.Generator().manual_seed(1)
    before = stranger.get_state()
    alone = torch.randn(3, generator=stranger)
    stranger.set_state(before)
    assert torch.equal(torch.randn(3, generator=stranger), alone)


# --------------------------------------------------------------------------------------------------------------------
# speed


@pytest.fixture(scope="module")
def lightning(tmp_path_factory):
    """The built-in motion module under the name of a distilled one."""
    path = tmp_path_factory.mktemp("motion") / "animatediff_lightning_4step.safetensors"
    shutil.copy(POCKET.folder / POCKET.motion, path)
    return load_motion_module(path)


FAST = {"speed": "fast"}
LINE = "speed fast, for animatediff_lightning_4step.safetensors: euler with trailing timesteps, 4 steps, CFG 1."


def test_speed_fast_samples_as_the_module_was_trained(still, lightning):
    lines = []
    frames, calls = still(motion=lightning, settings=FAST, steps=None, cfg=None, say=lines.append)
    assert lines[:1] == [LINE]
    assert [call.timestep for call in calls] == [999, 749, 499, 249]
    assert {len(call.latents) for call in calls} == {FRAMES}
    assert type(calls[0].scheduler) is diffusers.EulerDiscreteScheduler
    by_hand = still(motion=lightning, sampler="euler", spacing=TRAILING, steps=4, cfg=1.0)[0]
    assert torch.equal(frames, by_hand)


def test_what_is_given_stays_and_a_line_says_what_does_not_fit(still, lightning):
    lines = []
    _, calls = still(motion=lightning, settings=FAST, steps=5, cfg=3.0, say=lines.append)
    assert len(calls) == 5
    assert {len(call.latents) for call in calls} == {2 * FRAMES}
    name = lightning.name
    assert lines[:2] == [
        f"speed fast, for {name}: euler with trailing timesteps, 5 steps, CFG 3.",
        f"{name} was distilled for 4 steps and CFG 1 to 2; you ask for 5 steps and CFG 3.",
    ]


def test_without_speed_nothing_is_changed_and_a_line_says_what_does_not_fit(still, lightning):
    lines = []
    _, calls = still(motion=lightning, steps=3, cfg=None, say=lines.append)
    assert len(calls) == 3
    assert {len(call.latents) for call in calls} == {2 * FRAMES}
    assert type(calls[0].scheduler) is diffusers.DDIMScheduler
    assert lines[0] == (
        f"{lightning.name} was distilled for euler with trailing timesteps, 4 steps and CFG 1 to 2; you ask for ddim "
        "with leading timesteps, 3 steps and CFG 7.5. Set speed to fast for what fits."
    )


def test_speed_fast_without_a_distilled_file_says_so(still):
    lines = []
    _, calls = still(settings=FAST, cfg=None, steps=2, say=lines.append)
    assert len(calls) == 2
    assert "speed fast changes nothing, since pocket-motion.safetensors is not known to be distilled" in lines[0]


@pytest.mark.parametrize(
    ("sampler", "spacing", "steps", "code"),
    [
        ("lcm", "leading", 4, "AD-D29"),
        ("euler", "sideways", 4, "AD-D29"),
        ("tcd", None, 51, "AD-D30"),
        ("lmc", None, 4, "AD-D20"),
    ],
)
def test_what_a_sampler_does_not_have_is_refused(still, sampler, spacing, steps, code):
    with pytest.raises(ClipError, match=code):
        still(sampler=sampler, spacing=spacing, steps=steps)


def test_lcm_takes_as_many_steps_as_it_has_timesteps():
    check_sampler("lcm", None, 50)
    check_sampler("lcm", TRAILING, 60)
