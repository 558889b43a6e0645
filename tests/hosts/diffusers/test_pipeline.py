"""A clip in Python, on a diffusers pipeline that the caller owns and finds unchanged afterwards."""

from __future__ import annotations

import pytest
import torch
from support import hosts
from support.motion_files import random_motion_state, write_motion_file
from support.oracle import insert_into_diffusers
from support.pocket_clips import near, pixels
from support.small_configs import PNDM, write_config_folder
from support.unchanged import Portrait
from support.webui_real import small_models

from lib_animatediff import ClipError, IncompatibleModelError
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings
from motion_module import load_motion_module

PROMPT = "a red cat"
SMALL = {"frames": 4, "size": (32, 32), "steps": 2}
IN_ONE_PIECE = parse_settings({"frames": 33, "context_length": 33})


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    return write_config_folder(tmp_path_factory.mktemp("models") / "config")


@pytest.fixture
def pipeline(configs):
    """Made from configs alone, in memory."""
    from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

    torch.manual_seed(0)
    made = StableDiffusionPipeline(
        vae=AutoencoderKL.from_config(AutoencoderKL.load_config(configs / "vae")),
        text_encoder=CLIPTextModel(CLIPTextConfig.from_pretrained(configs / "text_encoder")).eval(),
        tokenizer=CLIPTokenizer.from_pretrained(configs / "tokenizer"),
        unet=hosts.diffusers_unet(context=small_models.CONTEXT_DIM),
        scheduler=PNDMScheduler.from_config(PNDM),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    made.set_progress_bar_config(disable=True)
    return made


@pytest.fixture
def motion(tmp_path):
    return load_motion_module(write_motion_file(tmp_path))


def unanimated(pipeline, motion, frames):
    """The batch of the same seeds on the same noise levels, by the pipeline itself."""
    pipeline.scheduler = host.new_sampler("ddim", pipeline.scheduler, motion.schedule)
    generators = [torch.Generator().manual_seed(frame) for frame in range(frames)]
    more = {"width": 32, "height": 32, "num_inference_steps": 2}
    return pipeline(PROMPT, num_images_per_prompt=frames, generator=generators, **more).images


def test_a_clip_is_that_of_a_unet_with_really_inserted_modules(pipeline, motion):
    animated = animate(pipeline, motion, prompt=PROMPT, **SMALL)
    assert [picture.size for picture in animated] == [(32, 32)] * 4
    assert (pixels(animated) - pixels(unanimated(pipeline, motion, 4))).abs().float().mean() > 5
    insert_into_diffusers(pipeline.unet, random_motion_state("v3"), 4)
    assert near(pixels(animated), pixels(unanimated(pipeline, motion, 4)))


def scheduler_at_work(pipeline, motion):
    """The one that stands beside the UNet when it is called."""
    seen = []
    with pipeline.unet.register_forward_pre_hook(lambda *_: seen.append(pipeline.scheduler)):
        animate(pipeline, motion, prompt=PROMPT, **SMALL)
    return seen[0]


def values(scheduler):
    return {name: value for name, value in scheduler.config.items() if not name.startswith("_")}


def test_samples_as_the_official_configurations_whatever_the_pipeline_had(pipeline, motion):
    from diffusers import DDIMScheduler

    # configs/inference/inference-v3.yaml of the official repository, noise_scheduler_kwargs
    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "linear"}
    official = DDIMScheduler(**levels, steps_offset=1, clip_sample=False)
    other = {"rescale_betas_zero_snr": True, "set_alpha_to_one": False, "timestep_spacing": "trailing"}
    pipeline.scheduler = DDIMScheduler(trained_betas=[0.01] * 1000, **other)
    scheduler = scheduler_at_work(pipeline, motion)
    assert type(scheduler) is DDIMScheduler
    assert values(scheduler) == values(official)
    assert torch.allclose(scheduler.alphas_cumprod, motion.schedule.alphas_cumprod(), rtol=1e-4, atol=0)


def test_what_the_checkpoint_predicts_stays_its_own(pipeline, motion):
    pipeline.scheduler.register_to_config(prediction_type="v_prediction")
    assert scheduler_at_work(pipeline, motion).config.prediction_type == "v_prediction"


def fails_at_call(unet, number, error):
    """Have the UNet raise at one of its calls, as an out-of-memory error or another extension would."""
    calls = []

    def count(*_args):
        calls.append(None)
        if len(calls) == number:
            raise error

    return unet.register_forward_pre_hook(count)


@pytest.mark.parametrize("failing", [None, 1, 2], ids=["success", "error at the first step", "error at the last step"])
def test_the_pipeline_is_afterwards_what_it_was(pipeline, motion, failing):
    before, scheduler, config = Portrait(pipeline.unet), pipeline.scheduler, dict(pipeline.scheduler.config)
    if failing is None:
        animate(pipeline, motion, prompt=PROMPT, **SMALL)
    else:
        with fails_at_call(pipeline.unet, failing, RuntimeError("boom")), pytest.raises(RuntimeError, match="boom"):
            animate(pipeline, motion, prompt=PROMPT, **SMALL)
    assert pipeline.scheduler is scheduler
    assert dict(scheduler.config) == config
    before.assert_unchanged()


def test_too_little_memory_is_an_error_that_says_what_to_lower(pipeline, motion):
    with (
        fails_at_call(pipeline.unet, 1, torch.cuda.OutOfMemoryError("CUDA out of memory")),
        pytest.raises(ClipError, match="4 frames of 32x32 do not fit into the memory of cpu"),
    ):
        animate(pipeline, motion, prompt=PROMPT, **SMALL)


@pytest.mark.parametrize(
    "changes",
    [{"steps": 0}, {"size": (64, 60)}, {"frames": 33, "settings": IN_ONE_PIECE}, {"seed": -1}, {"frames": -1}],
    ids=str,
)
def test_an_impossible_clip_is_refused_in_python_too(pipeline, motion, changes):
    with pytest.raises(ClipError):
        animate(pipeline, motion, prompt=PROMPT, **SMALL | changes)


def test_a_pipeline_of_another_width_is_refused(pipeline, motion):
    pipeline.unet = hosts.diffusers_unet(width=64)
    with pytest.raises(IncompatibleModelError, match="different base models"):
        animate(pipeline, motion, prompt=PROMPT, **SMALL)
