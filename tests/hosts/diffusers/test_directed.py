"""What a person directs reaches a clip of a diffusers pipeline: prompts of frames, amounts, noise, FreeInit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from support.matrix import in_matrix
from support.pocket_clips import BLUE, CFG, RED, SIZE, STEPS, TINY, near, pixels

from lib_animatediff import ClipError, ContextWindows, inject
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.jobs import recipe as request
from lib_animatediff.prompts.interpolate import slerp
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.sampling.frame_noise import noise_sources
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise

TRAVEL = f"0: {RED}\n4: {BLUE}"


@dataclass
class Call:
    sample: torch.Tensor
    timestep: torch.Tensor
    condition: torch.Tensor
    output: torch.Tensor


@pytest.fixture
def calls(pipeline):
    """Every call of the UNet, as the pipeline sees it."""
    seen = []

    def keep(_unet, args, kwargs, output):
        seen.append(Call(args[0].clone(), args[1], kwargs["encoder_hidden_states"].clone(), output[0].clone()))

    with pipeline.unet.register_forward_hook(keep, with_kwargs=True):
        yield seen


def streams(rows):
    """Rows of the negative and of the positive prompt."""
    return rows.chunk(2)


# --------------------------------------------------------------------------------------------------------------------
# travel


def encoded(pipeline, text):
    return pipeline.encode_prompt(text, pipeline.device, 1, False)[0][0]


def test_frames_at_keys_have_the_keys_condition_and_those_between_the_blend(pipeline, clip, calls):
    clip(TRAVEL, frames=6)
    negative, positive = streams(calls[0].condition)
    red, blue = encoded(pipeline, RED), encoded(pipeline, BLUE)
    for frame, atol in enumerate((1e-5, 1e-4, 1e-4, 1e-4, 1e-5)):
        assert torch.allclose(positive[frame], slerp(red, blue, frame / 4), atol=atol)
    assert torch.equal(positive[5], positive[4])
    assert torch.allclose(negative, encoded(pipeline, "").expand_as(negative), atol=1e-5)


LINEAR = {"travel_interpolation": "linear"}
LOOP = LINEAR | {"frames": 8, "context_length": 4, "overlap": 1, "closed_loop": "A"}  # back to the first prompt


@pytest.mark.parametrize(
    ("settings", "frame", "weight"),
    [
        ({"travel_interpolation": "step"}, 2, 0),
        (LINEAR, 2, 0.5),
        (LINEAR | {"travel_easing": "ease-in"}, 2, 0.25),
        (LINEAR | {"travel_hold": 0.25}, 2, 1 / 3),
        (LOOP, 6, 0.5),
    ],
    ids=str,
)
def test_settings_say_how_prompts_travel(pipeline, clip, calls, settings, frame, weight):
    clip(TRAVEL, steps=1, **{"frames": 5} | settings)
    wanted = torch.lerp(encoded(pipeline, RED), encoded(pipeline, BLUE), weight)
    assert torch.allclose(streams(calls[0].condition)[1][frame], wanted, atol=1e-5)


def test_one_line_at_frame_0_is_the_plain_prompt(clip):
    assert torch.equal(clip(f"0: {RED}", size=TINY), clip(RED, size=TINY))


def test_the_negative_prompt_travels_by_itself(pipeline, clip, calls):
    clip(RED, negative_prompt=f"0: {BLUE}\n2: worst quality", travel_interpolation="step")
    negative, positive = streams(calls[0].condition)
    assert torch.allclose(positive, encoded(pipeline, RED).expand_as(positive), atol=1e-5)
    for frame, text in enumerate([BLUE, BLUE, "worst quality", "worst quality"]):
        assert torch.allclose(negative[frame], encoded(pipeline, text), atol=1e-5)


def test_python_hears_of_a_wrong_line_too(clip, pipeline):
    former = pipeline.scheduler
    with pytest.raises(ClipError, match="Line 2 of the prompt"):
        clip(f"0: {RED}\n9: {BLUE}")
    assert pipeline.scheduler is former


# --------------------------------------------------------------------------------------------------------------------
# amount of motion


@pytest.mark.parametrize(
    "amount", [in_matrix({"scale": 1}), in_matrix({"effect": 1}), {"scale": "1, 1, 1, 1", "effect": "0: 1, -1: 1"}]
)
def test_as_trained_said_in_words_is_bit_for_bit_the_same(clip, amount):
    assert torch.equal(clip(size=TINY, **amount), clip(size=TINY))


def test_without_effect_each_frame_is_the_preview_of_its_seed(clip):
    seeds = [7, 30, 4]
    frames = clip(frames=3, effect=0, frame_seeds="7, 30, 4")
    previews = torch.cat([clip(frames=16, preview=True, seed=seed) for seed in seeds])
    assert near(frames, previews)
    assert not near(frames[:1], frames[1:2], 20)


def test_a_preview_is_one_frame_with_the_first_prompt_and_nothing_that_needs_more(clip):
    more = {"freeinit_enable": True, "scale": 3, "noise": "freenoise", "context_length": 8, "overlap": 2}
    preview = clip(f"0: {RED}\n20: {BLUE}", frames=30, poster=True, **more)  # by its earlier name
    assert near(preview, clip(RED, frames=1, effect=0))


@pytest.mark.parametrize(
    ("settings", "moves"), [({"effect_start": 0.5}, (False, True)), ({"effect_end": 0.5}, (True, False))], ids=str
)
def test_motion_begins_and_ends_at_its_steps(pipeline, motion, clip, calls, settings, moves):
    clip(**settings)
    seen = list(calls)
    for call, moving in zip(seen, moves, strict=True):
        given = {"encoder_hidden_states": call.condition, "return_dict": False}
        with torch.no_grad():
            (plain,) = pipeline.unet(call.sample, call.timestep, **given)
            with inject(pipeline.unet, motion, frames=4):
                (animated,) = pipeline.unet(call.sample, call.timestep, **given)
        assert torch.equal(call.output, animated if moving else plain)
        assert not torch.equal(animated, plain)


# --------------------------------------------------------------------------------------------------------------------
# noise


def drawn(seed, times):
    """What a frame's generator gives, one after the other."""
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn((1, 4, 8, 8), generator=generator)[0] for _ in range(times)]


@pytest.fixture
def blind(pipeline, monkeypatch):
    """The UNet says that nothing is noise, so that a frame is the sum of what was drawn for it."""

    def forward(_unet, sample, *_args, **_kwargs):
        return (torch.zeros_like(sample),)

    monkeypatch.setattr(type(pipeline.unet), "forward", forward)


LONG = {"frames": 7, "context_length": 4, "overlap": 2}


OTHER_WINDOWS = [{"context_kind": "static", "overlap": 1, "stride": 2}, {"context_kind": "batched"}]
OTHER_WINDOWS += [{"closed_loop": "A"}, {"views": True}]


@pytest.mark.parametrize("noise", ["random", "shared", "constant"])
def test_a_frames_noise_depends_on_neither_length_nor_windows(clip, calls, blind, noise):
    def made(**settings):
        calls.clear()
        clip(sampler="euler-a", noise=noise, size=TINY, **settings)
        assert len(calls) == STEPS
        return [streams(call.sample)[1] for call in calls]

    whole = made(**LONG)
    for frames in (1, 4):
        assert all(torch.equal(long[:frames], short) for long, short in zip(whole, made(frames=frames), strict=True))
    for more in OTHER_WINDOWS if noise == "random" else ():
        assert all(torch.equal(*pair) for pair in zip(whole, made(**LONG | more), strict=True))


def test_an_ancestral_step_draws_on_from_the_frames_own_seed(pipeline, motion, clip, calls, blind):
    """The step's noise is what is left over of the latents, times its share."""
    clip(sampler="euler-a", seed=40, **LONG)
    (first, second), sampler = calls, host.new_sampler("euler-a", pipeline.scheduler, motion.schedule)
    sampler.set_timesteps(2)
    sigma, following = sampler.sigmas[:2].tolist()
    up = math.sqrt(following**2 * (sigma**2 - following**2) / sigma**2)
    for frame in range(7):
        noise, more = drawn(40 + frame, 2)
        before = streams(first.sample)[1][frame] * math.sqrt(sigma**2 + 1)
        after = streams(second.sample)[1][frame] * math.sqrt(following**2 + 1)
        assert torch.allclose(before, noise * sampler.init_noise_sigma, rtol=1e-4, atol=1e-4)
        assert torch.allclose(after - before, more * up, atol=2e-3)


@pytest.mark.parametrize(
    ("settings", "seeds"),
    [
        ({"seed": 40}, (40, 41, 42, 43)),
        ({"frame_seeds": "5, 60, 9"}, (5, 60, 9, 10)),  # it goes on counting
        ({"noise": "constant", "seed": 8}, (8, 8, 8, 8)),
    ],
    ids=str,
)
def test_frames_start_from_the_noise_of_their_seeds_in_both_streams(clip, calls, settings, seeds):
    clip(**settings)
    wanted = torch.stack([drawn(seed, 1)[0] for seed in seeds])
    assert all(torch.equal(stream, wanted) for stream in streams(calls[0].sample))


def test_with_free_noise_a_later_frame_is_the_picture_of_its_source(clip):
    frames = clip(noise="freenoise", effect=0, seed=6, **LONG)
    sources = noise_sources("freenoise", 7, ContextWindows(4, 2), 6)
    assert sources[:5] == [0, 1, 2, 3, 4]
    assert set(sources[5:]) <= {0, 1}
    assert near(frames, frames[sources])
    assert not any(near(frames[frame], frames[frame + 1], 20) for frame in range(3))


# --------------------------------------------------------------------------------------------------------------------
# FreeInit


def test_two_iterations_are_those_of_a_loop_written_out(pipeline, motion, clip, monkeypatch):
    found = clip(freeinit_enable=True, freeinit_iters=2, freeinit_ds=0.3, freeinit_dt=0.2, seed=12)
    seeds = range(12, 16)
    initial = torch.stack([drawn(seed, 1)[0] for seed in seeds])
    fresh = fresh_noise((4, 8, 8), seeds, 1)
    monkeypatch.setattr(pipeline, "scheduler", host.new_sampler("ddim", pipeline.scheduler, motion.schedule))
    asked = {"num_images_per_prompt": 4, "num_inference_steps": STEPS, "guidance_scale": CFG}
    asked |= {"width": SIZE[0], "height": SIZE[1]}
    with inject(pipeline.unet, motion, frames=4):
        finished = pipeline(RED, latents=initial, output_type="latent", **asked).images
        share = float(motion.schedule.alphas_cumprod()[-1])
        mixed = {"kind": "butterworth", "spatial": 0.3, "temporal": 0.2, "frames": 4, "last_alpha_cumprod": share}
        pictures = pipeline(RED, latents=next_noise(finished, initial, fresh, **mixed), **asked).images
    assert near(found, pixels(pictures))
    assert not near(found, clip(seed=12), 20)


@pytest.mark.parametrize(
    ("more", "steps"),
    [in_matrix({}, 12), ({"freeinit_coarse": True}, 1 + 2 + 4), ({"freeinit_iters": 1}, 4), ({"preview": True}, 4)],
    ids=str,
)
def test_the_progress_bar_counts_the_steps_of_all_iterations(pipeline, more, steps):
    settings = parse_settings({"frames": 2, "freeinit_enable": True, "freeinit_iters": 3} | more)
    files = [POCKET.folder / name for name in (POCKET.checkpoint, POCKET.motion)]
    given = {"prompt": RED, "size": SIZE, "steps": 4, "cfg": CFG}
    ready, done = request.prepare(request.Request(*files, settings=settings, **given)), []
    ready.render(pipeline, lambda: done.append(None))
    assert len(done) == ready.steps == steps
