"""The worst things that people report of animating in the WebUI, each by its number: here they do not happen."""

from __future__ import annotations

import json
import math

import numpy
import pytest
import torch
from hosts.webui.real.test_pocket import PAINTED, small_world  # noqa: F401 - a fixture
from PIL import Image
from safetensors.torch import load_file, save_file
from support.motion_files import write_motion_file
from support.webui_real.clips import FRAMES, animate, clip_of, clip_payload
from support.webui_real.server import base64_image, file_bytes
from support.webui_real.studio import FLOAT_ORDER, frames_of, hooks_in_the_unet, portrait

from lib_animatediff import builtin_model as pocket

PLAINLY = {"alwayson_scripts": {"Trouble": {"args": [{"plainly": True}]}}}


def seen(server) -> dict:
    return server.api("GET", "/trouble/seen").json()


@pytest.mark.parametrize("pad", [False, True])
def test_pain_1_a_long_prompt_makes_two_unrelated_clips(studio, pad):
    """A prompt of over 75 tokens, padded or not: one clip, the one of plainly laid rows."""
    long = {"negative_prompt": "blue dog, " * 40, "override_settings": {"pad_cond_uncond": pad}}
    frames = frames_of(studio, **long)
    if not pad:
        assert abs(frames - frames_of(studio, **long, **PLAINLY)).max() < FLOAT_ORDER
    halves = abs(frames[: FRAMES // 2] - frames[FRAMES // 2 :]).mean()
    steps = abs(frames[1:] - frames[:-1]).mean()
    assert halves < 3 * steps


def test_pain_2_a_failure_still_renders_unrelated_pictures(studio):
    """What cannot be a clip gives the reason, and not a single picture: none in the reply, none on the disk."""
    before = sorted(studio.outputs_dir.rglob("*"))
    response = studio.api("POST", "/sdapi/v1/txt2img", clip_payload({"model": "page"}, steps=2))
    assert response.status_code == 422
    assert "images" not in response.json()
    assert sorted(studio.outputs_dir.rglob("*")) == before


def test_pain_3_the_model_stays_patched_after_an_error(studio):
    """After a failure in the middle of the UNet: the same model, the same picture, the same clip, in both tabs."""
    picture, clip, before = file_bytes(studio.txt2img()), frames_of(studio), portrait(studio)
    trouble = {"Trouble": {"args": [{"raise_at": {"layer": "model.diffusion_model.middle_block.1", "call": 1}}]}}
    payload = clip_payload(alwayson_scripts=trouble)
    assert studio.api("POST", "/sdapi/v1/txt2img", payload).status_code == 500
    assert portrait(studio) == before
    assert not hooks_in_the_unet(before)
    assert file_bytes(studio.txt2img()) == picture
    assert abs(frames_of(studio) - clip).max() == 0
    assert studio.img2img(init_images=[picture_text(studio)])["images"]


def picture_text(server) -> str:
    return server.txt2img()["images"][0]


def test_pain_4_clips_are_washed_out(studio):
    """Sampling starts at the sigma of the motion module's own (linear) schedule; a picture's is the checkpoint's."""

    def first_sigma(betas: torch.Tensor) -> float:
        left = float(torch.cumprod(1 - betas, 0)[-1])
        return math.sqrt((1 - left) / left)

    linear = first_sigma(torch.linspace(0.00085, 0.012, 1000, dtype=torch.float64))
    scaled = first_sigma(torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2)
    animate(studio, sampler_name="Euler", scheduler="Normal")
    assert seen(studio)["sigma"] == pytest.approx(linear, rel=1e-4)
    studio.txt2img(sampler_name="Euler", scheduler="Normal")
    assert seen(studio)["sigma"] == pytest.approx(scaled, rel=1e-4)


def test_pain_6_seams_between_windows(small_world):  # noqa: F811
    """A trained model's clip of 32 frames in windows of 16: no jump where windows meet, as there is without overlap."""

    def worst_jump(kind: str, overlap: int) -> float:
        clip = {"model": pocket.MOTION, "frames": 32, "context_length": 16, "context_kind": kind, "overlap": overlap}
        override = {"sd_model_checkpoint": pocket.CHECKPOINT}
        asked = {**PAINTED, "prompt": "a red disc moving right", "override_settings": override}
        frames = clip_of(animate(small_world, clip, **asked)).frames.astype(float)
        changes = abs(frames[1:] - frames[:-1]).mean((1, 2, 3))
        return float(changes.max() / numpy.median(changes))

    assert worst_jump("static", 8) < worst_jump("batched", 0)


def test_pain_7_memory_grows_with_the_clip_and_is_not_given_back(studio):
    """A clip of 64 frames is painted 16 at a time, and afterwards no tensor of it is left in the process."""
    animate(studio, {"frames": 64}, steps=1)
    before = studio.api("GET", "/trouble/live-bytes").json()
    for _ in range(2):
        animate(studio, {"frames": 64}, steps=2)
    studio.txt2img()
    kept = studio.api("GET", "/trouble/live-bytes").json() - before
    one_latent = 4 * 8 * 8 * 4
    assert kept < 16 * one_latent


def test_pain_8_detailers_meet_an_animated_model(studio):
    """A detailer that repaints each finished frame gets plain pictures, and the clip is what it is without it."""
    clip = frames_of(studio)
    detailed = frames_of(studio, alwayson_scripts={"Trouble": {"args": [{"nested": True}]}})
    assert abs(clip - detailed).max() == 0


def test_pain_11_lcm_modules_look_burnt(studio):
    """An AnimateLCM module says which sampler and CFG it wants, and runs with them."""
    write_motion_file(studio.motion_modules_dir, "lcm")
    try:
        models = {model["name"]: model for model in studio.api("GET", "/animatediff/v1/models").json()}
        assert "LCM" in models["mm_small_lcm.safetensors"]["hint"]
        asked = {"sampler_name": "LCM", "cfg_scale": 1.5, "steps": 4}
        assert len(clip_of(animate(studio, {"model": "mm_small_lcm"}, **asked)).frames) == FRAMES
    finally:
        (studio.motion_modules_dir / "mm_small_lcm.safetensors").unlink()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_pain_19_motion_modules_of_another_dtype_fail(studio, dtype):
    """The same motion module saved in half, bfloat16 or FP8: the clip is the same to that rounding."""
    whole = studio.motion_modules_dir / "mm_small_v3.safetensors"
    rounded = studio.motion_modules_dir / f"mm_{dtype}_v3.safetensors"
    state = load_file(whole)
    save_file({name: tensor.to(getattr(torch, dtype)) for name, tensor in state.items()}, rounded)
    try:
        clip = frames_of(studio, {"model": rounded.name}, steps=2)
        assert abs(clip - frames_of(studio, steps=2)).mean() < {"float16": 0.01, "bfloat16": 0.03}.get(dtype, 0.2)
        assert numpy.isfinite(clip).all()
    finally:
        rounded.unlink()


def test_pain_22_the_same_seed_gives_another_picture(studio):
    """Frame 0 starts from the very noise of the still picture with this seed, and with the panel closed it is that."""
    still = studio.txt2img()
    noise = seen(studio)["noise"]
    animate(studio)
    assert seen(studio)["noise"] == noise
    assert file_bytes(studio.txt2img()) == file_bytes(still)


def test_pain_24_one_animation_for_many_pictures(studio):
    """Two pictures and a batch size of two: two clips, each of its own picture, with a seed of its own."""
    pictures = [base64_image(Image.new("RGB", (64, 64), (level,) * 3)) for level in (20, 235)]
    answer = studio.img2img(
        init_images=pictures, batch_size=2, denoising_strength=0.5, alwayson_scripts=clip_payload()["alwayson_scripts"]
    )
    assert len(answer["images"]) == 2
    assert json.loads(answer["info"])["all_seeds"] == [1, 1 + FRAMES]
    assert seen(studio)["starts"] == [20] * FRAMES + [235] * FRAMES
