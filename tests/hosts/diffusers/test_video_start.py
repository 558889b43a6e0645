"""A clip from a video: frame i starts from its own frame, with the noise, the timestep and the steps of diffusers."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from PIL import Image
from support.clip_files import write_film
from support.matrix import in_matrix
from support.pocket_clips import CFG, RED, clip_of, near, pixels
from support.pocket_clips import TINY as SIZE

from lib_animatediff import ClipError
from lib_animatediff.engine.inject import inject
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import SAMPLERS, new_sampler
from lib_animatediff.hosts.diffusers.start.video import check_video, encode_frames, start_latents
from lib_animatediff.request.plan import Sampling, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.source import Source, source_frames

FRAMES, SEED = 4, 3
COLOURS = [(230, 40, 40), (40, 200, 60), (50, 60, 220), (220, 210, 60)]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A film of twelve frames, each of another colour than the one before."""
    images = [Image.new("RGB", SIZE, COLOURS[index % 4]) for index in range(12)]
    path = tmp_path_factory.mktemp("source") / "a.mkv"
    return Source(write_film(path, images, codec="ffv1", pix_fmt="bgr0"))


def rendered(pipeline, motion, video, *, steps=4, sampler="ddim", prompt=RED, **settings):
    checked = parse_settings({"frames": FRAMES} | settings)
    made = animate(
        pipeline,
        motion,
        prompt=prompt,
        seed=SEED,
        settings=checked,
        video=video,
        size=SIZE,
        steps=steps,
        cfg=CFG,
        sampler=sampler,
    )
    return pixels(made)


def like(pipeline, frames=FRAMES):
    return torch.empty(frames, 4, SIZE[1] // 8, SIZE[0] // 8, dtype=pipeline.dtype)


@torch.no_grad()
def encoded(pipeline, source, frames=FRAMES):
    return encode_frames(pipeline, source_frames(source, SIZE, frames), like(pipeline, frames))


@torch.no_grad()
def decoded(pipeline, latents):
    images = [pipeline.vae.decode(row[None] / pipeline.vae.config.scaling_factor).sample for row in latents]
    return pixels(pipeline.image_processor.postprocess(torch.cat(images), output_type="pil"))


@pytest.fixture
def unet_calls(pipeline):
    calls = []
    with pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1)):
        yield calls


def test_strength_0_gives_the_video_back_as_its_vae_does(pipeline, motion, source, unet_calls):
    with torch.no_grad():
        images = [torch.tensor(COLOURS[index]) / 127.5 - 1 for index in range(FRAMES)]
        frames = torch.stack([image[:, None, None].expand(3, *SIZE) for image in images])
        alone = torch.cat([pipeline.vae.encode(frame[None]).latent_dist.mode() for frame in frames])
    whole = decoded(pipeline, alone * pipeline.vae.config.scaling_factor)
    assert near(rendered(pipeline, motion, VideoStart(source, 0.0)), whole, 0)
    assert near(rendered(pipeline, motion, VideoStart(source, 0.2)), whole, 0)  # of 4 steps, none
    assert not unet_calls


def test_strength_1_is_the_clip_from_text_bit_for_bit(pipeline, motion, source):
    assert near(rendered(pipeline, motion, VideoStart(source, 1.0)), rendered(pipeline, motion, None), 0)


@pytest.mark.parametrize("sampler", [name if name in ("ddim", "dpm++2m-sde") else in_matrix(name) for name in SAMPLERS])
def test_each_sampler_does_what_diffusers_image_to_image_does(pipeline, motion, source, sampler):
    made = rendered(pipeline, motion, VideoStart(source, 0.6), steps=5, sampler=sampler)
    oracle = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    oracle.set_progress_bar_config(disable=True)
    oracle.scheduler = new_sampler(sampler, pipeline.scheduler, motion.schedule)
    with inject(oracle.unet, motion, frames=FRAMES):
        latents = oracle(
            [RED] * FRAMES,
            image=encoded(pipeline, source),
            strength=0.6,
            num_inference_steps=5,
            guidance_scale=CFG,
            eta=SAMPLERS[sampler].eta,
            generator=[torch.Generator().manual_seed(SEED + frame) for frame in range(FRAMES)],
            output_type="latent",
        ).images
    assert near(made, decoded(pipeline, latents))
    assert not near(made, decoded(pipeline, encoded(pipeline, source)), 20)


@pytest.mark.parametrize(("steps", "strength", "run"), [(10, 0.35, 3), (4, 0.5, 2), (3, 0.99, 2)])
def test_the_steps_that_run_are_their_share(pipeline, motion, source, unet_calls, steps, strength, run):
    seen = []
    animate(
        pipeline,
        motion,
        prompt=RED,
        frames=2,
        video=VideoStart(source, strength),
        size=SIZE,
        steps=steps,
        on_step=lambda: seen.append(1),
    )
    assert len(unet_calls) == len(seen) == run
    plan = plan_clip(parse_settings({"frames": 2}), Sampling(steps=steps)).with_video(VideoStart(source, strength))
    assert plan.sampled_steps == run
    assert plan.runs == (steps,)


def test_long_clips_in_windows_follow_their_frames_and_prompts_still_travel(pipeline, motion, source):
    options = {"frames": 12, "context_length": 4, "overlap": 1}
    plain = rendered(pipeline, motion, VideoStart(source, 0.2), steps=5, **options)
    shown = decoded(pipeline, encoded(pipeline, source))
    for frame, image in enumerate(plain):
        distances = [(image - kept).abs().sum() for kept in shown]
        assert min(range(4), key=distances.__getitem__) == frame % 4
    prompt = f"0 hold: {RED}\n9: a blue cross"
    travelling = rendered(pipeline, motion, VideoStart(source, 0.2), steps=5, prompt=prompt, **options)
    assert near(travelling[:6], plain[:6])  # the windows of one step are those of another clip from frame 6 on
    assert not near(travelling[9:], plain[9:])


def test_noise_kinds_and_freeinit_shape_the_noise_that_is_added(pipeline, motion, source):
    video = VideoStart(source, 0.75)
    kinds = [
        rendered(pipeline, motion, video, steps=2, **settings)
        for settings in ({}, {"noise": "constant"}, {"noise": "shared"}, {"freeinit_enable": True, "freeinit_iters": 2})
    ]
    for index, one in enumerate(kinds):
        assert not any(near(one, other) for other in kinds[index + 1 :])


def test_a_preview_starts_from_the_first_frame(pipeline, motion, source):
    made = rendered(pipeline, motion, VideoStart(replace(source, start=1), 0.0), preview=True)
    assert near(made, decoded(pipeline, encoded(pipeline, replace(source, start=1), 1)), 0)


def test_the_latents_are_the_same_however_many_the_vae_takes_at_a_time(pipeline, source, monkeypatch):
    alone = encoded(pipeline, source)
    module = "lib_animatediff.hosts.diffusers.start.video.frames_at_once"
    monkeypatch.setattr(module, lambda *_: 3)
    assert torch.allclose(encoded(pipeline, source), alone, atol=1e-4)


def test_what_cannot_start_from_a_video_is_refused_before_sampling(pipeline, motion, source, unet_calls):
    with pytest.raises(ClipError, match="cannot apply a source video"):
        rendered(pipeline, Text2VideoZero(), VideoStart(source))
    with pytest.raises(ClipError, match="gives 12 frames with this start and end, but 16 are needed"):
        rendered(pipeline, motion, VideoStart(source), frames=16)
    with pytest.raises(ClipError, match="denoise must be between 0 and 1"):
        VideoStart(source, 1.5)
    plan = plan_clip(parse_settings({"frames": 2}), Sampling())
    with pytest.raises(ClipError, match="video would have no effect together with a plan"):
        animate(pipeline, plan, video=VideoStart(source))
    assert not unet_calls


def test_the_plan_is_the_job_with_its_video(pipeline, source):
    plan = plan_clip(parse_settings({"frames": 2}), Sampling(steps=4))
    moving = plan.with_video(VideoStart(replace(source, end=5, fps=4.0), 0.3))
    assert plan_from_json(moving.to_json()).video == moving.video
    assert len({plan.id, moving.id, plan.with_video(VideoStart(source, 0.4)).id}) == 3
    assert plan_from_json(plan.to_json()).video is None
    assert check_video(plan) is None
    assert start_latents(pipeline, plan.with_video(VideoStart(source, 1.0)), like(pipeline, 2)) is None
    damaged = moving.to_json()
    damaged["video"]["every"] = "2"
    with pytest.raises(ClipError, match="The source video's every is damaged"):
        plan_from_json(damaged)


def test_another_seed_is_another_clip(pipeline, motion, source):
    one = rendered(pipeline, motion, VideoStart(source, 0.8))
    assert near(one, rendered(pipeline, motion, VideoStart(source, 0.8)), 0)
    assert not near(one, clip_of(pipeline, motion, RED, seed=SEED, steps=4, size=SIZE))
