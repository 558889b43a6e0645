"""What a person does with a clip's settings in the WebUI's page, beyond the panel's first fields."""

from __future__ import annotations

import re

from hosts.webui.real.test_panel import generate
from support.webui_real.server import open_page

PANEL = "#animatediff_txt2img"


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
