"""What a person does on the WebUI's page."""

from __future__ import annotations

import re

import requests
from support.webui_real.server import PAYLOAD, open_page

PANEL = "#animatediff_txt2img"


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


def open_group(page, heading: str, field: str) -> None:
    """Unfolds a part of the panel."""
    page.locator(f"{PANEL} .label-wrap", has_text=heading).click()
    page.locator(f"{PANEL}_{field}").wait_for(state="visible")


def choose(page, field: str, value: str) -> None:
    """Takes an entry from a field's list."""
    page.locator(f"{PANEL}_{field} input").click()
    page.locator(f"{PANEL}_{field} li[data-value='{value}']").click()
    page.wait_for_function(f"document.querySelector('{PANEL}_{field} input').value == '{value}'")


def slide(page, field: str, value: float) -> None:
    """Types the number of a slider."""
    box = page.locator(f"{PANEL}_{field} input[type=number]")
    box.fill(str(value))
    box.blur()


def paste(page, server, text: str) -> None:
    """Opens the page, puts a clip's text into the prompt and presses the arrow button, which reads it."""
    open_page(page, server)
    page.locator("#txt2img_prompt textarea").fill(text)
    page.locator("#txt2img_tools #paste").click()
    seed = re.search(r"Seed: (\d+)", text)[1]
    page.wait_for_function(f"document.querySelector('#txt2img_seed input').value == '{seed}'")
    page.locator(f"{PANEL}_frames").wait_for(state="visible")


def pasted(page, server, text: str) -> None:
    """Makes the clip that a text describes, by clicking."""
    paste(page, server, text)
    generate(page)
