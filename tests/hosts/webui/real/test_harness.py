"""The harness itself: what the small models and the server must do before anything can be proven with them."""

from __future__ import annotations

import numpy
import pytest
from support.webui_real.server import file_bytes, open_page, pixels

CAT = "a photo of a cat"
VISIBLE = 4.0
"""Mean difference, in levels of 255, from which two pictures count as different ones."""


def difference(plain_webui, **payload) -> float:
    """Returns how far a picture is from the default one."""
    plain = pixels(plain_webui.txt2img(prompt=CAT)).astype(float)
    return float(numpy.abs(pixels(plain_webui.txt2img(**payload)) - plain).mean())


def test_same_request_gives_the_same_bytes(plain_webui):
    """Byte comparisons of pictures mean something only if nothing else changes them."""
    first = plain_webui.txt2img(prompt=CAT)
    second = plain_webui.txt2img(prompt=CAT)
    assert file_bytes(first) == file_bytes(second)
    assert pixels(first).shape == (64, 64, 3)
    assert 20 < pixels(first).std() < 120, "neither flat nor clipped to black and white"


@pytest.mark.parametrize(
    "payload",
    [
        {"prompt": "a photo of a dog"},
        {"prompt": CAT, "seed": 2},
        {"prompt": f"{CAT} <lora:small_lora:1>"},
        {"prompt": f"{CAT} smallembedding"},
        {"prompt": f"{CAT} <hypernet:small_hypernetwork:1>"},
        {"prompt": "a photo of a cat in the red picture, " * 20},
        {"prompt": f"{CAT} AND a blue dog"},
        {"prompt": CAT, "sampler_name": "DDIM"},
        {"prompt": CAT, "override_settings": {"sd_model_checkpoint": "other.safetensors"}},
        {"prompt": CAT, "override_settings": {"sd_model_checkpoint": "small.ckpt"}},
    ],
    ids=["prompt", "seed", "lora", "embedding", "hypernetwork", "long", "and", "ddim", "checkpoint", "same_module"],
)
def test_the_picture_depends_on(plain_webui, payload):
    """Prompt, seed, extra networks, samplers and checkpoints are all visible in the small model's pictures."""
    assert difference(plain_webui, **payload) > VISIBLE


def test_the_embedding_is_loaded(plain_webui):
    """The WebUI has read the embedding and found its width right, so its word is not tokenized as text."""
    listed = plain_webui.api("GET", "/sdapi/v1/embeddings").json()
    assert "smallembedding" in listed["loaded"]


def test_override_settings_do_not_stay(plain_webui):
    """The settings are complete: a request's overrides are gone after it, also those of options never set before."""
    overrides = {"CLIP_stop_at_last_layers": 2, "eta_ancestral": 0.5, "batch_cond_uncond": False}
    before = plain_webui.options()
    first = plain_webui.txt2img(prompt=CAT)
    overridden = plain_webui.txt2img(prompt=CAT, override_settings=overrides)
    after = plain_webui.options()
    assert {name: after[name] for name in overrides} == {name: before[name] for name in overrides}
    assert file_bytes(overridden) != file_bytes(first)
    assert file_bytes(plain_webui.txt2img(prompt=CAT)) == file_bytes(first)


def test_hires_fix_enlarges(plain_webui):
    """The second pass runs on an enlarged latent."""
    hires = {"enable_hr": True, "hr_scale": 2, "hr_upscaler": "Latent", "denoising_strength": 0.7}
    answer = plain_webui.txt2img(prompt=CAT, **hires)
    assert pixels(answer).shape == (128, 128, 3)


def test_the_page_paints_a_picture(plain_webui, page, screenshot):
    """The page opens with the txt2img tab in front, and its Generate button paints."""
    open_page(page, plain_webui)
    page.locator("#txt2img_prompt textarea").fill(CAT)
    page.locator("#txt2img_steps input[type=number]").fill("2")
    for side in ("width", "height"):
        page.locator(f"#txt2img_{side} input[type=number]").fill("64")
    page.locator("#txt2img_generate").click()
    page.locator("#txt2img_gallery img").first.wait_for(state="visible")
    page.locator("#html_info_txt2img.prose", has_text="Size: 64x64").wait_for()
    page.locator("#txt2img_interrupt").wait_for(state="hidden")
    assert screenshot(page, "harness_txt2img").stat().st_size > 0
