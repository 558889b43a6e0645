"""The accordion, clicked in a real browser on the real WebUI's page."""

from __future__ import annotations

import pytest
from support.motion_files import write_motion_file
from support.webui_real.clicking import (
    choose_module,
    fill,
    fill_prompt_and_size,
    generate,
    open_accordion,
    open_windows,
    refusal,
    shown_gif,
)
from support.webui_real.clips import animate, clip_of, read_gif
from support.webui_real.places import REPOSITORY
from support.webui_real.server import open_page


@pytest.fixture(scope="session")
def panel(start_webui):
    """The WebUI as a person first meets it: the extension is installed, no motion module is there yet."""
    return start_webui("panel", extensions=[REPOSITORY])


@pytest.mark.shows("Panel: told: no module")
def test_without_a_motion_module_the_panel_says_where_to_put_one(panel, page, screenshot):
    """The accordion names the folder, and Generate answers with that sentence instead of pictures."""
    open_page(page, panel)
    open_accordion(page)
    assert "models/animatediff" in page.locator("#animatediff_txt2img").inner_text()
    fill_prompt_and_size(page)
    assert "No motion module was found. Download one (such as v3_sd15_mm.ckpt, from " in refusal(page)
    assert page.locator("#txt2img_gallery img").count() == 0
    screenshot(page, "panel_no_module")


def test_a_clip_by_clicking_equals_the_clip_by_api(panel, page):
    """The panel's request and the API's are the same clip, byte for byte in every frame."""
    write_motion_file(panel.motion_modules_dir)
    clip = clip_of(animate(panel))
    open_page(page, panel)
    page.locator("#txt2img_prompt textarea").fill(clip.comment)
    page.locator("#txt2img_tools #paste").click()
    page.locator("#animatediff_txt2img_frames").wait_for(state="visible")
    page.wait_for_function("document.querySelector('#animatediff_txt2img_frames input[type=number]').value == '8'")
    generate(page)
    assert (read_gif(shown_gif(page)).frames == clip.frames).all()


def test_a_long_clip_by_clicking_equals_the_clip_by_api(panel, page, screenshot):
    """40 frames typed, windows of 12 chosen under their heading: the API's clip, and the panel says how it is made."""
    write_motion_file(panel.motion_modules_dir)
    clip = {"frames": 40, "context_length": 12, "overlap": 3, "context_kind": "static"}
    wanted = clip_of(animate(panel, clip, sampler_name="DPM++ 2M"))
    open_page(page, panel)
    open_accordion(page)
    choose_module(page, "mm_small_v3.safetensors")
    open_windows(page)
    fill(page, {"animatediff_txt2img_frames": 40, "animatediff_txt2img_context_length": 12})
    fill(page, {"animatediff_txt2img_overlap": 3})
    page.locator("#animatediff_txt2img_context_kind input").click()
    page.locator('#animatediff_txt2img_context_kind li[data-value="static"]').click()
    fill_prompt_and_size(page)
    said = "40 frames at 8 per second: 5.0 seconds, in context windows of 12 frames"
    page.locator(".animatediff-duration", has_text=said).wait_for()
    screenshot(page, "panel_windows")
    generate(page)
    gif = read_gif(shown_gif(page))
    assert len(gif.frames) == 40
    assert gif.comment.split("Steps:")[0] == wanted.comment.split("Steps:")[0]


def test_with_the_accordion_closed_the_page_paints_a_picture(panel, page):
    """Closed again, the panel leaves Generate alone."""
    write_motion_file(panel.motion_modules_dir)
    open_page(page, panel)
    open_accordion(page)
    page.locator("#animatediff_txt2img .label-wrap").first.click()
    page.locator("#animatediff_txt2img_frames").wait_for(state="hidden")
    fill_prompt_and_size(page)
    generate(page)
    assert shown_gif(page).startswith(b"\x89PNG")
