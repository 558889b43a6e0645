"""What the real denoiser batches together: every call holds whole clips, and the clip is that of plainly laid rows."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from support.webui_real.clips import FRAMES, animate, clip_of, clip_payload
from support.webui_real.server import PAYLOAD, STYLE, base64_image
from support.webui_real.studio import FLOAT_ORDER, decoded, frames_of, texts_of, trouble

PARTS = ("a red cat", "a blue dog :0.7", "a green picture")
LONG = ", in the red garden" * 25
SHORT = {"frames": 4}


def prompt_of(parts, is_long):
    return " AND ".join([PARTS[0] + LONG * is_long, *PARTS[1:parts]])


@pytest.mark.shows(
    "Batching: normal and split calls",
    "Batching: NGMS, Skip early CFG",
    "Batching: AND with 1 to 3 parts",
    "Batching: all rows in one call where a call would split a clip, said in the infotext, the "
    "user's setting untouched",
)
@pytest.mark.parametrize("ngms", [0, 40], ids=["every step with uncond", "NGMS"])
@pytest.mark.parametrize("is_long", [False, True], ids=["equal", "unequal"])
@pytest.mark.parametrize("batched", [True, False], ids=["batched", "split"])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_and_in_prompts_equals_plainly_laid_rows(studio, parts, batched, is_long, ngms):
    request = {
        "prompt": prompt_of(parts, is_long),
        "steps": 3,
        "override_settings": {"batch_cond_uncond": batched, "s_min_uncond": ngms},
    }
    wanted = frames_of(studio, SHORT, **request, **trouble(plainly=True))
    answer = animate(studio, SHORT, **request)
    assert len(clip_of(answer).frames) == 4
    assert abs(decoded(studio) - wanted).max() < FLOAT_ORDER
    said = "AnimateDiff batching: all rows in one call" in texts_of(answer)[0]
    splits = parts > (2 if batched else 1) and not studio.host.is_patched  # Forge and reForge never split a clip
    assert said == splits


@pytest.mark.shows(
    "Batching: all rows in one call where a call would split a clip, said in the infotext, the user's setting untouched"
)
def test_the_users_setting_stays(studio):
    studio.post("/sdapi/v1/options", {"batch_cond_uncond": False})
    animate(studio, SHORT, prompt=prompt_of(2, False))
    assert studio.options()["batch_cond_uncond"] is False
    studio.post("/sdapi/v1/options", {"batch_cond_uncond": True})


@pytest.mark.shows("Batching: CFG 1", "Batching: scheduled and alternating prompts")
@pytest.mark.parametrize(
    "request_",
    [
        {"cfg_scale": 1},
        {"prompt": "a [red:blue:0.5] cat"},
        {"prompt": "a [red|blue] cat"},
        {"prompt": "a (red:1.3) cat [dog]"},
        {"prompt": "a red cat BREAK a blue dog"},
        {"sampler_name": "DDIM", "prompt": prompt_of(2, False)},
        {"sampler_name": "UniPC", "prompt": prompt_of(2, True)},
    ],
    ids=["CFG 1", "scheduled", "alternating", "attention", "BREAK", "AND with DDIM", "AND with UniPC"],
)
def test_prompts_and_samplers_that_change_the_conditions(studio, request_):
    wanted = frames_of(studio, SHORT, **request_, **trouble(plainly=True))
    assert abs(frames_of(studio, SHORT, **request_) - wanted).max() < FLOAT_ORDER


@pytest.mark.shows("Batching: AND in the prompt of hires fix")
def test_and_in_the_prompt_of_hires_fix_alone(studio):
    hires = {"enable_hr": True, "hr_scale": 1.5, "denoising_strength": 0.7, "hr_prompt": prompt_of(2, False)}
    assert clip_of(animate(studio, SHORT, **hires)).size == (96, 96)


@pytest.mark.shows("Batching: subseeds and variation")
def test_variation_seeds(studio):
    """Variation of one noise: all frames share the seed, and frame i is drawn to subseed + i."""
    varied = {"subseed": 100, "subseed_strength": 0.3}
    answer = animate(studio, SHORT, **varied, batch_size=2)
    info = json.loads(answer["info"])
    assert info["all_seeds"] == [1, 1]
    assert info["all_subseeds"] == [100, 104]
    second = decoded(studio)[4:]
    again = frames_of(studio, SHORT, **{**varied, "subseed": 104})
    assert abs(second - again).max() < FLOAT_ORDER


@pytest.mark.shows("Batching: styles")
def test_styles_reach_the_clip(studio):
    info = json.loads(animate(studio, SHORT, styles=[STYLE])["info"])
    assert info["prompt"] == f"{PAYLOAD['prompt']}, blue"
    assert info["negative_prompt"] == "red"


@pytest.mark.shows("Batching: a prompt of its own for each row: a clip takes its first")
def test_a_clip_takes_its_first_rows_prompt(studio):
    got = frames_of(studio, SHORT, **trouble(rows=True))
    wanted = frames_of(studio, SHORT, prompt=f"{PAYLOAD['prompt']}, blue")
    assert abs(got - wanted).max() == 0


@pytest.mark.shows("Pains that people report: pain 24: one animation for many pictures")
def test_each_picture_of_a_batch_has_a_clip_of_its_own(studio):
    pictures = [base64_image(Image.new("RGB", (64, 64), (level,) * 3)) for level in (20, 235)]
    answer = studio.img2img(**clip_payload(init_images=pictures, batch_size=2, denoising_strength=0.5))
    assert len(answer["images"]) == 2
    assert json.loads(answer["info"])["all_seeds"] == [1, 1 + FRAMES]
    assert studio.api("GET", "/trouble/seen").json()["starts"] == [20] * FRAMES + [235] * FRAMES
