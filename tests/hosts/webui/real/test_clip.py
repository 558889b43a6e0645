"""A clip by the API of the real WebUI: what is asked for, what comes back, and what is left behind."""

from __future__ import annotations

import base64
import json
import threading
import time
from datetime import date

import numpy
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.motion_files import write_motion_file
from support.webui_real.clips import CLIP, FRAMES, animate, apart, clip_of, clip_payload
from support.webui_real.server import OTHER_CHECKPOINT, PAYLOAD, SHARED_CONFIG_CHECKPOINT, file_bytes
from support.webui_real.studio import (
    FLOAT_ORDER,
    HIRES,
    VISIBLE,
    decoded,
    frames_of,
    hooks_in_the_unet,
    left_as_it_was,
    made_from,
    plain_batch,
    portrait,
    same_picture_after,
    texts_of,
    trouble,
)

CAT = PAYLOAD["prompt"]


@pytest.mark.parametrize("model", ["mm_small_v2.safetensors", "mm_small_v3.safetensors"])
def test_a_clip_by_api_is_a_gif_of_the_asked_count_size_and_duration(studio, model):
    answer = animate(studio, {"model": model}, width=96, height=64)
    gif = clip_of(answer)
    assert len(answer["images"]) == 1
    assert (len(gif.frames), gif.size, gif.milliseconds, gif.loop) == (FRAMES, (96, 64), 1000, 0)
    plain = plain_batch(studio, width=96, height=64)
    assert min(apart(a, b) for a, b in zip(gif.frames, plain, strict=True)) > VISIBLE
    assert min(apart(a, b) for a, b in zip(gif.frames, gif.frames[1:], strict=False)) > 0


@pytest.mark.shows("Batching: seed of each clip in infotext and file name")
def test_name_and_infotext_carry_the_seed_and_png_info_reads_the_settings(studio):
    answer = animate(studio, seed=321, save_images=True)
    folder = studio.outputs_dir / "txt2img-images" / "AnimateDiff" / date.today().isoformat()
    (path,) = folder.glob("*-321.gif")
    assert path.stem.split("-")[0].isdigit()
    assert path.read_bytes() == file_bytes(answer)
    assert {file.suffix for file in folder.glob("*-321*")} == {".gif"}
    (infotext,) = texts_of(answer)
    assert all(words in infotext for words in ("Seed: 321,", "AnimateDiff:", "frames: 8", "mm_hash"))
    data = "data:image/gif;base64," + base64.b64encode(file_bytes(answer)).decode()
    assert studio.post("/sdapi/v1/png-info", {"image": data})["info"] == infotext
    assert clip_of(answer).comment == infotext


def test_fps_and_loop_count(studio):
    gif = clip_of(animate(studio, {"fps": 23.976, "loop_count": 3}))
    assert gif.loop == 2
    assert gif.milliseconds == pytest.approx(1000 * FRAMES / 23.976, abs=5)


def test_what_the_existing_extension_sends_and_saves_is_understood(studio):
    arguments = {
        "enable": True, "model": CLIP["model"], "video_length": FRAMES, "fps": 8, "loop_number": 0,
        "closed_loop": "R-P",
        "batch_size": 16, "stride": 1, "overlap": -1, "format": ["GIF"], "interp": "Off", "interp_x": 10,
        "video_source": None, "video_path": "", "freeinit_enable": False, "latent_power": 1, "latent_scale": 32,
    }  # fmt: skip
    infotext = (
        "a photo of a cat\nSteps: 4, Sampler: Euler a, CFG scale: 7, Seed: 1, Size: 64x64, "
        'AnimateDiff: "enable: True, model: mm_small_v3.safetensors, video_length: 8, fps: 8, loop_number: 0, '
        'closed_loop: R-P, batch_size: 16, stride: 1, overlap: 4, interp: Off, interp_x: 10, mm_hash: 1234abcd"'
    )
    wanted = clip_of(animate(studio)).frames
    sent = studio.txt2img(alwayson_scripts={"animatediff": {"args": [arguments]}})
    assert (clip_of(sent).frames == wanted).all()
    saved = studio.from_infotext(infotext, scheduler="Automatic")
    assert (clip_of(saved).frames == wanted).all()


@pytest.mark.shows("Batching: batch count", "Batching: batch size is the number of clips")
@pytest.mark.parametrize(("two", "bound"), [({"n_iter": 2}, 0), ({"batch_size": 2}, FLOAT_ORDER)])
def test_each_of_two_clips_is_the_one_of_its_seed(studio, two, bound):
    answer = animate(studio, **two)
    second, text = decoded(studio)[FRAMES:], texts_of(answer)[1]
    assert len(answer["images"]) == 2
    assert json.loads(answer["info"])["all_seeds"] == [1, 1 + FRAMES]
    assert f"Seed: {1 + FRAMES}," in text
    assert abs(second - made_from(studio, text)).max() <= bound


@pytest.mark.shows(
    "Batching: unequal lengths", "Pains that people report: pain 1: a long prompt makes two unrelated clips"
)
@pytest.mark.parametrize(
    "prompts",
    [{"prompt": CAT + ", in the red garden" * 25}, {"negative_prompt": "blue dog, " * 40}],
    ids=["long", "neg"],
)
def test_prompts_over_75_tokens_with_cond_and_uncond_apart_or_together(studio, prompts):
    gif = clip_of(animate(studio, **prompts))
    together = decoded(studio)
    split = frames_of(studio, **prompts, override_settings={"batch_cond_uncond": False})
    plainly = frames_of(studio, **prompts, **trouble(plainly=True))
    padded = frames_of(studio, **prompts, override_settings={"pad_cond_uncond": True})
    assert max(abs(together - other).max() for other in (split, plainly)) < FLOAT_ORDER
    assert len(together) == len(padded) == len(gif.frames) == FRAMES
    assert apart(gif.frames, plain_batch(studio, **prompts)) > VISIBLE
    for frames in (together, padded):  # two clips would differ by their halves
        halves, steps = frames[: FRAMES // 2] - frames[FRAMES // 2 :], frames[1:] - frames[:-1]
        assert abs(halves).mean() < 3 * abs(steps).mean()


@pytest.mark.parametrize("options", [{"sd_noise_schedule": "Zero Terminal SNR"}, {"use_downcasted_alpha_bar": True}])
def test_the_users_noise_options_stay_on_top(studio, options):
    assert (clip_of(animate(studio, override_settings=options)).frames != clip_of(animate(studio)).frames).any()


@pytest.mark.shows("Passes: override settings: checkpoint", "Passes: hires fix with another checkpoint")
@pytest.mark.parametrize(
    ("request_", "other"),
    [
        ({}, {"override_settings": {"sd_model_checkpoint": OTHER_CHECKPOINT}}),
        ({**HIRES, "hr_upscaler": "Latent"}, {"hr_checkpoint_name": OTHER_CHECKPOINT}),
    ],
    ids=["by override", "of the second pass"],
)
def test_another_checkpoint_moves_and_both_models_are_clean_afterwards(studio, request_, other):
    with same_picture_after(studio):
        plain, changed = (clip_of(animate(studio, **request_, **more)).frames for more in ({}, other))
    assert apart(plain, changed) > VISIBLE
    assert not hooks_in_the_unet(portrait(studio))


def test_a_hires_checkpoint_without_a_schedule_of_its_own_keeps_the_models(studio):
    """Loaded while the motion module's schedule stands in the model, it does not take that for its own."""
    other = {"override_settings": {"sd_model_checkpoint": SHARED_CONFIG_CHECKPOINT}}
    before = [file_bytes(studio.txt2img()), file_bytes(studio.txt2img(**other)), file_bytes(studio.txt2img())]
    animate(studio, **HIRES, hr_upscaler="Latent", hr_checkpoint_name=SHARED_CONFIG_CHECKPOINT)
    after = [file_bytes(studio.txt2img(**other)), file_bytes(studio.txt2img()), file_bytes(studio.txt2img(**other))]
    assert after == [before[1], before[0], before[1]]


@pytest.mark.shows(
    "Mixing: nested runs, as ADetailer's, get a clean model and run per frame",
    "Pains that people report: pain 8: detailers meet an animated model",
)
def test_nested_runs_of_other_scripts_stay_plain_pictures(studio):
    """A script that runs txt2img and img2img on each finished frame gets plain pictures; the clip is not disturbed."""
    before = len(studio.api("GET", "/trouble/nested").json())
    clip = frames_of(studio, **trouble(nested=True))
    assert studio.api("GET", "/trouble/nested").json()[before:] == [[[64, 64]]] * FRAMES * 2
    assert (clip == frames_of(studio)).all()


def test_the_model_is_the_same_after_a_clip(studio):
    with left_as_it_was(studio):
        animate(studio)
        animate(studio, {"model": "mm_small_v2.safetensors"})


@pytest.mark.shows("Pains that people report: pain 3: the model stays patched after an error")
@pytest.mark.parametrize(
    ("layer", "call"),
    [("model.diffusion_model.input_blocks.1.1", 1), ("model.diffusion_model.middle_block.2", 1),
     ("model.diffusion_model.out.2", 1), ("first_stage_model.decoder.conv_in", 0)],
)  # fmt: skip
def test_the_model_is_the_same_after_a_failure(studio, layer, call):
    clip = animate(studio)
    with left_as_it_was(studio):
        payload = clip_payload(**PAYLOAD, **trouble(raise_at={"layer": layer, "call": call}))
        response = studio.api("POST", "/sdapi/v1/txt2img", payload)
        assert response.status_code == 500
        assert "trouble as ordered" in response.text
    assert file_bytes(animate(studio)) == file_bytes(clip)


@pytest.mark.shows("API: an interrupted request returns what there is")
@pytest.mark.parametrize("button", ["interrupt", "skip"])
def test_the_model_is_the_same_after_interrupt_and_skip(studio, button):
    answers = []
    with left_as_it_was(studio):
        request = threading.Thread(target=lambda: answers.append(animate(studio, steps=150)))
        request.start()
        while studio.api("GET", "/sdapi/v1/progress?skip_current_image=true").json()["state"]["sampling_step"] < 3:
            time.sleep(0.05)
        studio.post(f"/sdapi/v1/{button}")
        request.join()
    assert len(clip_of(answers[0]).frames) == FRAMES


def test_switched_off_the_extension_changes_no_byte(studio, plain_webui):
    wanted = file_bytes(plain_webui.txt2img())
    off = {"AnimateDiff": {"args": [{"enable": False, "frames": 12}]}}
    assert file_bytes(studio.txt2img()) == wanted
    assert file_bytes(studio.txt2img(alwayson_scripts=off)) == wanted
    animate(studio)
    assert file_bytes(studio.txt2img()) == wanted


@pytest.mark.shows("Pains that people report: pain 11: lcm modules look burnt")
def test_a_module_says_which_sampler_it_wants(studio):
    write_motion_file(studio.motion_modules_dir, "lcm")
    try:
        models = {model["name"]: model for model in studio.api("GET", "/animatediff/v1/models").json()}
        assert "LCM" in models["mm_small_lcm.safetensors"]["hint"]
        asked = {"sampler_name": "LCM", "cfg_scale": 1.5, "steps": 4}
        assert len(clip_of(animate(studio, {"model": "mm_small_lcm"}, **asked)).frames) == FRAMES
    finally:
        (studio.motion_modules_dir / "mm_small_lcm.safetensors").unlink()


@pytest.mark.shows("Pains that people report: pain 19: motion modules of another dtype fail")
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float8_e4m3fn"])
def test_motion_modules_of_any_precision_run(studio, dtype):
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
