"""The accordion, clicked in a real browser on the real WebUI's page."""

from __future__ import annotations

import pytest
import requests
from hosts.webui.real.conftest import REPOSITORY
from support.motion_files import write_motion_file
from support.webui_real.clips import FRAMES, animate, clip_of, read_gif
from support.webui_real.server import PAYLOAD, open_page


@pytest.fixture(scope="session")
def panel(start_webui):
    """The WebUI as a person first meets it: the extension is installed, no motion module is there yet."""
    return start_webui("panel", extensions=[REPOSITORY])


def fill(page, values: dict[str, object]) -> None:
    """Types values into fields by their ids, the way a person does: and leaves the field."""
    for field, value in values.items():
        box = page.locator(f"#{field} textarea, #{field} input[type=number]").first
        box.fill(str(value))
        box.blur()


def fill_prompt_and_size(page) -> None:
    fill(page, {"txt2img_prompt": PAYLOAD["prompt"], "txt2img_steps": 4, "txt2img_seed": 1})
    fill(page, {"txt2img_width": 64, "txt2img_height": 64})


def open_accordion(page) -> None:
    page.locator("#animatediff_txt2img .label-wrap").first.click()
    page.locator("#animatediff_txt2img_frames").wait_for(state="visible")


def open_windows(page) -> None:
    page.locator("#animatediff_txt2img .label-wrap", has_text="Context windows").click()
    page.locator("#animatediff_txt2img_overlap").wait_for(state="visible")


def choose_module(page, name: str) -> None:
    """Refreshes the list and takes a module from it."""
    page.locator("#animatediff_txt2img_refresh").click()
    field, choice = (
        page.locator(f"#animatediff_txt2img_model {part}") for part in ("input", f'li[data-value^="{name} ["]')
    )
    for _ in range(40):  # the list is filled some time after the click, and shows what it held when it was opened
        field.click()
        if choice.count():
            break
        field.blur()
        page.wait_for_timeout(250)
    choice.click()
    page.wait_for_function(f"document.querySelector('#animatediff_txt2img_model input').value.startsWith('{name} [')")


def prepare_clip(page, server, frames: int) -> None:
    """Opens the page and asks for a small clip, up to pressing Generate."""
    open_page(page, server)
    fill_prompt_and_size(page)
    open_accordion(page)
    choose_module(page, "mm_small_v3.safetensors")
    fill(page, {"animatediff_txt2img_frames": frames})


def generate(page, seconds: float = 60) -> None:
    page.locator("#txt2img_generate").click()
    page.locator("#txt2img_interrupt").wait_for(state="visible")
    page.locator("#txt2img_interrupt").wait_for(state="hidden", timeout=1000 * seconds)


def refusal(page) -> str:
    """What the page says to a request that is over before its buttons change."""
    page.locator("#txt2img_generate").click()
    error = page.locator("#html_log_txt2img .error")
    error.wait_for()
    return error.inner_text()


def shown_gif(page) -> bytes:
    """The file that the gallery's big picture points to."""
    source = page.locator("#txt2img_gallery img[data-testid=detailed-image], #txt2img_gallery img").first
    source.wait_for(state="visible")
    answer = requests.get(source.get_attribute("src"), timeout=60)
    answer.raise_for_status()
    return answer.content


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


def test_a_clip_by_clicking(panel, page, screenshot):
    """Refresh, open, choose, Generate: the gallery shows a GIF, the same as the API's for the same settings."""
    write_motion_file(panel.motion_modules_dir)
    open_page(page, panel)
    open_accordion(page)
    choose_module(page, "mm_small_v3.safetensors")
    page.locator(".animatediff-no-module").first.wait_for(state="hidden")
    fill(page, {"animatediff_txt2img_frames": FRAMES, "animatediff_txt2img_fps": 10})
    fill_prompt_and_size(page)
    page.locator(".animatediff-duration", has_text="8 frames at 10 per second: 0.8 seconds").wait_for()
    generate(page)
    gif = read_gif(shown_gif(page))
    screenshot(page, "panel_clip")
    assert (len(gif.frames), gif.size, gif.milliseconds, gif.loop) == (FRAMES, (64, 64), 800, 0)
    assert "AnimateDiff" in page.locator("#html_info_txt2img.prose").inner_text()
    wanted = clip_of(animate(panel, {"fps": 10}, sampler_name="DPM++ 2M"))
    assert gif.comment.split("Steps:")[0] == wanted.comment.split("Steps:")[0]


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


def test_too_many_frames_are_one_clear_line(panel, page, screenshot):
    """A setting that cannot be is one line that says what to do, and no picture."""
    write_motion_file(panel.motion_modules_dir)
    open_page(page, panel)
    open_accordion(page)
    choose_module(page, "mm_small_v3.safetensors")
    open_windows(page)
    fill(page, {"animatediff_txt2img_frames": 40, "animatediff_txt2img_context_length": 40})
    fill_prompt_and_size(page)
    assert "Lower the number of frames to 32 or less." in refusal(page)
    screenshot(page, "panel_refusal")


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
