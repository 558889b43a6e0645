"""Text2Video-Zero in a WebUI that has no motion module: on Stable Diffusion 1.5, 2 and SDXL, by API and by clicking."""

from __future__ import annotations

import pytest
from support.webui_real.clicking import (
    choose_module,
    fill,
    fill_prompt_and_size,
    generate,
    open_fold,
    open_panel,
    paste,
    refusal,
    shown_gif,
)
from support.webui_real.clips import animate, clip_of, read_gif
from support.webui_real.plot import grid_of
from support.webui_real.server import CHECKPOINT
from support.webui_real.small_sd2 import write_sd2_checkpoint
from support.webui_real.small_sdxl import NO_DOWNLOAD, write_sdxl_checkpoint
from support.webui_real.studio import FLOAT_ORDER, decoded, frames_of, left_as_it_was, preview_of, refused

CHECKPOINTS = {
    "Stable Diffusion 1.5": CHECKPOINT,
    "Stable Diffusion 2": "small_sd2.safetensors",
    "SDXL": "small_sdxl.safetensors",
}
ZERO = {"model": "Text2Video-Zero", "frames": 4, "zero_x": 64, "zero_y": 0}
NAME = "Text2Video-Zero [no file, any checkpoint]"


@pytest.fixture(scope="module")
def bare(start_studio):
    """A WebUI with a checkpoint of each base, and no motion module."""
    server = start_studio("bare", settings=NO_DOWNLOAD)
    write_sd2_checkpoint(server.models_dir / "Stable-diffusion")
    write_sdxl_checkpoint(server.models_dir / "Stable-diffusion")
    server.api("POST", "/sdapi/v1/refresh-checkpoints").raise_for_status()
    return server


@pytest.mark.shows("Text2Video-Zero: Stable Diffusion 1.5, 2 and SDXL, without a motion module, the model as it was")
@pytest.mark.parametrize("sampler", ["Euler a", "DDIM"])
@pytest.mark.parametrize("base", CHECKPOINTS)
def test_every_base_makes_clips(bare, base, sampler):
    bare.post("/sdapi/v1/options", {"sd_model_checkpoint": CHECKPOINTS[base]})
    request = {"sampler_name": sampler, "steps": 8}
    with left_as_it_was(bare, **request):
        frames, alone = frames_of(bare, ZERO, **request), preview_of(bare, ZERO, **request)
        bare.txt2img(**request, batch_size=ZERO["frames"])
        among_others = decoded(bare)[0]
        bare.txt2img(**request)
        plain = decoded(bare)[0]
    # The small SDXL model makes much of the order of float sums, as a plain picture among others shows.
    assert abs(frames[0] - alone).max() < max(FLOAT_ORDER, 2 * abs(among_others - plain).max())
    assert min(abs(frames[i] - frames[i + 1]).mean() for i in range(3)) > 5e-3


@pytest.mark.shows("Text2Video-Zero: Stable Diffusion 1.5, 2 and SDXL, without a motion module, the model as it was")
def test_a_checkpoint_by_override(bare):
    bare.post("/sdapi/v1/options", {"sd_model_checkpoint": CHECKPOINT})
    override = {"override_settings": {"sd_model_checkpoint": CHECKPOINTS["Stable Diffusion 2"]}}
    frames = frames_of(bare, ZERO, **override)
    assert abs(frames - frames_of(bare, ZERO)).max() > 0.1
    assert abs(frames[0] - preview_of(bare, ZERO, **override)).max() < FLOAT_ORDER


@pytest.mark.shows("Text2Video-Zero: no name does not mean it")
def test_no_name_does_not_mean_it(bare):
    reason = refused(bare, {"model": ""})
    assert "No motion module was found." in reason
    assert "Or choose Text2Video-Zero, which needs no file." in reason


@pytest.mark.shows("Text2Video-Zero: an axis, and in the clients' list")
def test_it_is_an_axis_and_in_the_clients_list(bare):
    assert [model["name"] for model in bare.api("GET", "/animatediff/v1/models").json()] == ["Text2Video-Zero"]
    bare.post("/sdapi/v1/options", {"sd_model_checkpoint": CHECKPOINT})
    x, y = ("[AnimateDiff] Motion module", "text2video-zero"), ("[AnimateDiff] Text2Video-Zero shift x", "-64,64")
    _, made = grid_of(bare, {"model": "", "frames": 4}, x, y)
    assert [len(gif.frames) for gif in made] == [4, 4]
    assert all("model: Text2Video-Zero" in gif.comment for gif in made)
    assert (made[0].frames != made[1].frames).any()


@pytest.mark.shows("Text2Video-Zero: by clicking")
def test_by_clicking_it_is_the_clip_of_the_api(bare, page):
    bare.post("/sdapi/v1/options", {"sd_model_checkpoint": CHECKPOINT})
    open_panel(page, bare)
    assert "Or choose Text2Video-Zero" in page.locator(".animatediff-first-steps").first.inner_text()
    assert page.locator("#animatediff_txt2img_model input").input_value() == ""
    fill_prompt_and_size(page)
    assert "No motion module was found." in refusal(page)
    choose_module(page, "Text2Video-Zero")
    page.locator(".animatediff-first-steps").first.wait_for(state="hidden")
    page.locator(".animatediff-advice", has_text="shifts the whole image").wait_for()
    fill(page, {"animatediff_txt2img_frames": 20, "animatediff_txt2img_zero_x": 64, "animatediff_txt2img_zero_y": -64})
    page.locator("#animatediff_txt2img_plan p", has_text="20 frames, 64x64, 2.5 s long.").wait_for()
    open_fold(page, "context_length")
    page.get_by_text("20 frames in 2 chunks of 16 (4 steps: 8 UNet calls with up to 32 images)").wait_for()
    generate(page)
    clicked = read_gif(shown_gif(page))
    assert len(clicked.frames) == 20
    assert "model: Text2Video-Zero, frames: 20" in clicked.comment
    wanted = clip_of(animate(bare, {**ZERO, "frames": 20, "zero_y": -64}, sampler_name="DPM++ 2M"))
    assert clicked.comment.split("Steps:")[0] == wanted.comment.split("Steps:")[0]
    again = clip_of(bare.from_infotext(clicked.comment))
    assert (again.frames == clicked.frames).all()


@pytest.mark.shows("Text2Video-Zero: the clip's text gives it again")
def test_a_pasted_text_chooses_it(bare, page):
    clip = clip_of(animate(bare, ZERO))
    paste(page, bare, clip.comment)
    page.wait_for_function(f"document.querySelector('#animatediff_txt2img_model input').value == '{NAME}'")
    page.wait_for_function("document.querySelector('#animatediff_txt2img_zero_x input').value == '64'")
    generate(page)
    assert (read_gif(shown_gif(page)).frames == clip.frames).all()


@pytest.mark.shows("Text2Video-Zero: what needs a motion module is refused")
def test_what_needs_a_motion_module_is_told_before_generate(bare, page):
    open_panel(page, bare)
    choose_module(page, "Text2Video-Zero")
    fill(page, {"animatediff_txt2img_scale": "1.5"})
    page.get_by_text("Text2Video-Zero uses no motion module and cannot apply scale.").wait_for()
