"""The accordion, clicked in a real browser on the real WebUI's page."""

from __future__ import annotations

import pytest
from support.motion_files import write_motion_file
from support.webui_real.clicking import (
    choose,
    fill,
    fill_prompt_and_size,
    generate,
    open_fold,
    open_panel,
    prepare_clip,
    refusal,
    shown_gif,
)
from support.webui_real.clips import animate, clip_of, read_gif
from support.webui_real.places import REPOSITORY

# What an earlier release, or another extension with a script of the same name, may have left in the file of defaults.
FORMER_DEFAULTS = {
    "customscript/animatediff.py/txt2img/FPS/value": 30,
    "customscript/animatediff.py/txt2img/Frames/value": 99,
    "customscript/animatediff.py/txt2img/Window stride/maximum": 2,
    "customscript/animatediff.py/txt2img/Save as/value": ["PNG"],
    "txt2img/FPS/visible": False,
    "txt2img/Reset/visible": False,
}


@pytest.fixture(scope="session")
def panel(start_webui):
    """The WebUI as a person first meets it: the extension is installed, no motion module is there yet."""
    return start_webui("panel", extensions=[REPOSITORY], ui_config=FORMER_DEFAULTS)


@pytest.mark.shows("Panel: says: no module")
def test_without_a_motion_module_the_panel_says_where_to_put_one(panel, page):
    open_panel(page, panel)
    assert "models/animatediff" in page.locator("#animatediff_txt2img").inner_text()
    fill_prompt_and_size(page)
    assert "No motion module was found. Download one (such as v3_sd15_mm.ckpt, from " in refusal(page)
    assert page.locator("#txt2img_gallery img").count() == 0


def test_a_long_clip_by_clicking_equals_the_clip_by_api(panel, page):
    write_motion_file(panel.motion_modules_dir)
    clip = {"frames": 40, "context_length": 12, "overlap": 3, "context_kind": "static"}
    wanted = clip_of(animate(panel, clip, sampler_name="DPM++ 2M"))
    prepare_clip(page, panel, 40)
    fill(page, {"animatediff_txt2img_context_length": 12, "animatediff_txt2img_overlap": 3})
    choose(page, "context_kind", "static")
    page.locator("#animatediff_txt2img_plan p", has_text="40 frames, 64x64, 5 s long.").wait_for()
    generate(page)
    gif = read_gif(shown_gif(page))
    assert len(gif.frames) == 40
    assert gif.comment.split("Steps:")[0] == wanted.comment.split("Steps:")[0]


def test_with_the_accordion_closed_the_page_paints_a_picture(panel, page):
    write_motion_file(panel.motion_modules_dir)
    open_panel(page, panel)
    page.locator("#animatediff_txt2img .label-wrap").first.click()
    page.locator("#animatediff_txt2img_frames").wait_for(state="hidden")
    fill_prompt_and_size(page)
    generate(page)
    assert shown_gif(page).startswith(b"\x89PNG")


@pytest.mark.shows("Panel: no frozen defaults in ui-config.json")
def test_former_defaults_do_no_harm(panel, page):
    open_panel(page, panel)
    assert page.locator("#animatediff_txt2img_fps input").input_value() == "8"
    assert page.locator("#animatediff_txt2img_frames input").input_value() == "16"
    assert page.locator("#animatediff_txt2img_formats label.selected").all_inner_texts() == ["GIF"]
    open_fold(page, "stride")
    assert page.locator("#animatediff_txt2img_stride input[type=range]").get_attribute("max") == "8"
    fill(page, {"animatediff_txt2img_stride": 3})
    page.locator("#animatediff_txt2img_reset_long_clips").wait_for(state="visible")


@pytest.mark.shows("Panel: what has no effect is greyed, with its reason")
def test_fields_without_effect_are_greyed(panel, page):
    write_motion_file(panel.motion_modules_dir)
    prepare_clip(page, panel, 8)
    overlap = page.locator("#animatediff_txt2img_overlap.animatediff-without-effect")
    overlap.wait_for(state="attached")
    assert "one window holds all of its frames" in overlap.get_attribute("title")
    assert page.locator("#animatediff_txt2img_fps.animatediff-without-effect").count() == 0
    fill(page, {"animatediff_txt2img_frames": 40})
    overlap.wait_for(state="detached")
    assert page.locator("#animatediff_txt2img_overlap").get_attribute("title") == ""


@pytest.mark.shows("Panel: a number out of range is refused with the range")
def test_a_number_out_of_range_is_refused_with_the_range(panel, page):
    write_motion_file(panel.motion_modules_dir)
    prepare_clip(page, panel, 8)
    fill(page, {"animatediff_txt2img_frames": 99999})
    told = page.locator("#animatediff_txt2img_plan .animatediff-advice")
    told.filter(has_text="frames must be between").wait_for()
    assert "frames must be between" in refusal(page)
