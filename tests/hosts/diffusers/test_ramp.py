"""The ramp of sd-webui-animatediff on a diffusers pipeline: the latents that a clip begins from, and their sampling."""

from __future__ import annotations

from dataclasses import replace

import diffusers
import pytest
import torch
from PIL import Image
from support.pocket_clips import CFG, RED, near, pixels
from support.pocket_clips import TINY as SIZE
from support.unchanged import Portrait

from lib_animatediff import ClipError, ImageRamp, LatentRamp
from lib_animatediff.engine.inject import inject
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import new_sampler
from lib_animatediff.hosts.diffusers.start.video import encode_frames
from lib_animatediff.request.plan import Sampling, add_ramp, plan_clip
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.pins import Pin, PinnedFrames
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.request.stored_plan import plan_from_json
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.source import Source

FRAMES, SEED = 5, 3


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """From orange to blue, with the shares of the existing extension's documentation for five frames."""
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for name, colour in (("a", (230, 120, 40)), ("b", (40, 60, 220))):
        paths.append(folder / f"{name}.png")
        Image.new("RGB", SIZE, colour).save(paths[-1])
    return ImageRamp(LatentRamp(1, 32), LatentRamp(1, 32), paths[1], paths[0], 0.6)


FIRST = torch.tensor([1, 0.516667, 0.5, 0.483333, 0])[:, None, None, None]
LAST = FIRST.flip(0)


def rendered(pipeline, motion, ramp, *, steps=5, **options):
    settings = parse_settings({"frames": FRAMES} | options.pop("settings", {}))
    how = {"settings": settings, "size": SIZE, "steps": steps, "cfg": CFG}
    made = animate(pipeline, motion, prompt=RED, seed=SEED, ramp=ramp, **how, **options)
    return pixels(made)


@torch.no_grad()
def encoded(pipeline, paths):
    like = torch.empty(len(paths), 4, SIZE[1] // 8, SIZE[0] // 8, dtype=pipeline.dtype)
    return encode_frames(pipeline, map(Image.open, paths), like)


@torch.no_grad()
def decoded(pipeline, latents):
    images = [pipeline.vae.decode(row[None] / pipeline.vae.config.scaling_factor).sample for row in latents]
    return pixels(pipeline.image_processor.postprocess(torch.cat(images), output_type="pil"))


def generators():
    return [torch.Generator().manual_seed(SEED + frame) for frame in range(FRAMES)]


def drawn(generators):
    return torch.stack([torch.randn(4, SIZE[1] // 8, SIZE[0] // 8, generator=generator) for generator in generators])


def test_images_fade_into_the_first_draw_of_noise(pipeline, motion, ramp):
    """At a strength of 0 the latents are the clip."""
    first, last = encoded(pipeline, [ramp.image, ramp.last_image])
    noise = drawn(generators())
    expected = FIRST * first + LAST * last + (1 - FIRST - LAST) * noise
    assert near(rendered(pipeline, motion, replace(ramp, denoise=0.0)), decoded(pipeline, expected))
    alone = replace(ramp, first=LatentRamp(2, 8), last_image=None, denoise=0.0)
    shares = torch.tensor([1, 0.875, 0.5, 0, 0])[:, None, None, None]
    assert near(rendered(pipeline, motion, alone), decoded(pipeline, shares * first + (1 - shares) * noise))


def test_the_latents_are_denoised_as_image_to_image_does_with_the_second_draw(pipeline, motion, ramp):
    before = Portrait(pipeline.unet)
    made = rendered(pipeline, motion, ramp)
    before.assert_unchanged()
    first, last = encoded(pipeline, [ramp.image, ramp.last_image])
    own = generators()
    mixed = FIRST * first + LAST * last + (1 - FIRST - LAST) * drawn(own)
    oracle = diffusers.StableDiffusionImg2ImgPipeline(**pipeline.components, requires_safety_checker=False)
    oracle.set_progress_bar_config(disable=True)
    oracle.scheduler = new_sampler("ddim", pipeline.scheduler, motion.schedule)
    with inject(oracle.unet, motion, frames=FRAMES):
        latents = oracle(
            [RED] * FRAMES,
            image=mixed,
            strength=0.6,
            num_inference_steps=5,
            guidance_scale=CFG,
            generator=own,
            output_type="latent",
        ).images
    assert near(made, decoded(pipeline, latents))


def test_at_full_strength_the_image_is_under_the_noise(pipeline, motion, ramp):
    full = rendered(pipeline, motion, replace(ramp, denoise=1.0))
    other = rendered(pipeline, motion, replace(ramp, denoise=1.0, image=ramp.last_image))
    assert not near(full, other, 2)


def test_frames_may_be_pinned_beside_it_and_a_preview_has_the_first_latents(pipeline, motion, ramp):
    pins = PinnedFrames((Pin(0, ramp.image),))
    made = rendered(pipeline, motion, ramp, pins=pins)
    assert near(made[:1], decoded(pipeline, encoded(pipeline, [ramp.image])), 0)
    assert not near(made[1:], rendered(pipeline, motion, None, pins=pins)[1:], 8)
    preview = rendered(pipeline, motion, replace(ramp, denoise=0.0), settings={"preview": True})
    assert near(preview, decoded(pipeline, encoded(pipeline, [ramp.image])))


def test_the_steps_that_run_are_their_share(pipeline, motion, ramp):
    calls = []
    with pipeline.unet.register_forward_pre_hook(lambda *_: calls.append(1)):
        rendered(pipeline, motion, ramp, steps=10)
    plan = add_ramp(plan_clip(parse_settings({"frames": FRAMES}), Sampling(steps=10)), ramp)
    assert len(calls) == plan.sampled_steps == 6


def test_the_plan_is_the_job_with_its_ramp(ramp):
    plan = plan_clip(parse_settings({"frames": FRAMES}), Sampling(steps=4))
    faded = add_ramp(plan, ramp)
    assert plan_from_json(faded.to_json()).ramp == ramp
    assert len({plan.id, faded.id, add_ramp(plan, replace(ramp, denoise=0.5)).id}) == 3
    for name, value in (("latent_power", "1"), ("fit", 2), ("denoise", None), ("image", "a.png")):
        damaged = faded.to_json()
        damaged["ramp"][name] = value
        with pytest.raises(ClipError, match="The ramp is damaged"):
            plan_from_json(damaged)


def test_what_cannot_be_is_refused(pipeline, motion, ramp, tmp_path):
    with pytest.raises(ClipError, match="from a video or from a ramp"):
        rendered(pipeline, motion, ramp, video=VideoStart(Source(ramp.image)))
    with pytest.raises(ClipError, match="cannot apply latent_scale"):
        rendered(pipeline, Text2VideoZero(), ramp)
    with pytest.raises(ClipError, match="needs the file of an init image"):
        rendered(pipeline, motion, replace(ramp, image=None))
    with pytest.raises(ClipError, match="strength of a ramp must be between 0 and 1"):
        replace(ramp, denoise=1.5)
    with pytest.raises(ClipError, match="fit must be one of"):
        replace(ramp, fit="tile")
    (tmp_path / "b.png").write_bytes(ramp.image.read_bytes()[:60])
    with pytest.raises(ClipError, match=r"b\.png"):
        rendered(pipeline, motion, replace(ramp, image=tmp_path / "b.png"))
