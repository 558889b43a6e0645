"""An SDXL checkpoint (its levels, depths, two text encoders and size conditions, at small widths) in the real WebUI."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.webui_real.clicking import choose_module, generate, open_panel, prepare_clip, shown_gif
from support.webui_real.clips import animate, apart, clip_of, read_gif
from support.webui_real.server import CHECKPOINT, pixels
from support.webui_real.small_sdxl import NO_DOWNLOAD, write_sdxl_checkpoint
from support.webui_real.studio import FLOAT_ORDER, VISIBLE, frames_of, left_as_it_was, refused

LONG = {"frames": 40, "context_length": 16, "overlap": 4, "model": "mm_small_sdxl"}
SHORT = {"frames": 8, "model": "mm_small_hotshot"}


@pytest.fixture(scope="module")
def sdxl_studio(start_studio):
    server = start_studio("sdxl", "sdxl", "hotshot", "v3", settings=NO_DOWNLOAD)
    write_sdxl_checkpoint(server.models_dir / "Stable-diffusion")
    server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
    server.post("/sdapi/v1/options", {"sd_model_checkpoint": "small_sdxl.safetensors"})
    return server


@pytest.mark.parametrize("clip", [LONG, SHORT], ids=["sdxl beta, 40 frames in windows of 16", "hotshot, 8 frames"])
def test_an_sdxl_checkpoint_moves(sdxl_studio, clip):
    with left_as_it_was(sdxl_studio):
        gif = clip_of(animate(sdxl_studio, clip))
    assert gif.frames.shape == (clip["frames"], 64, 64, 3)
    assert apart(gif.frames[0], pixels(sdxl_studio.txt2img())) > VISIBLE
    assert min(apart(a, b) for a, b in pairwise(gif.frames)) > 0


@pytest.mark.parametrize("prompts", [{}, {"prompt": "a red cat " * 40}], ids=["equal", "unequal"])
def test_cond_and_uncond_apart_or_together_are_the_same_clip(sdxl_studio, prompts):
    """Size conditions and pooled texts stay with their frames however the WebUI splits its calls."""
    together, split = (
        frames_of(sdxl_studio, SHORT, **prompts, override_settings={"batch_cond_uncond": value})
        for value in (True, False)
    )
    assert abs(together - split).max() < FLOAT_ORDER


def test_a_stable_diffusion_15_module_on_sdxl_is_refused(sdxl_studio):
    reason = refused(sdxl_studio, {"model": "mm_small_v3"})
    assert "SDXL" in reason
    assert "Stable Diffusion 1.5" in reason
    override = {"override_settings": {"sd_model_checkpoint": CHECKPOINT}}
    assert len(clip_of(animate(sdxl_studio, {"model": "mm_small_v3"}, **override)).frames) == 8


def test_by_clicking_it_is_the_clip_of_the_api(sdxl_studio, page):
    prepare_clip(page, sdxl_studio, 8, "mm_small_hotshot.safetensors")
    assert "SDXL" in page.locator("#animatediff_txt2img_model input").input_value()
    generate(page)
    clicked = read_gif(shown_gif(page))
    again = clip_of(sdxl_studio.from_infotext(clicked.comment))
    assert (again.frames == clicked.frames).all()


@pytest.mark.shows("Panel: says: wrong base, SDXL")
def test_the_panel_says_when_module_and_checkpoint_do_not_fit(sdxl_studio, page):
    open_panel(page, sdxl_studio)
    choose_module(page, "mm_small_v3.safetensors")
    page.locator(".animatediff-advice", has_text="is for Stable Diffusion 1.5, but the checkpoint is SDXL").wait_for()
    choose_module(page, "mm_small_hotshot.safetensors")
    page.locator(".animatediff-advice", has_text="8 frames").wait_for()
    choose_module(page, "mm_small_sdxl.safetensors")
    page.locator(".animatediff-advice", has_text="8 frames").wait_for(state="detached")
