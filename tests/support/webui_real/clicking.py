"""What a person does on the WebUI's page."""

from __future__ import annotations

import re

import requests
from support.webui_real.server import PAYLOAD, open_page

from lib_animatediff.request.settings import SETTINGS

PANEL = "#animatediff_txt2img"
SAMPLER = "DPM++ 2M"
_OF_PANEL = re.compile(r"animatediff_(\w+?2img)_(\w+)")


def panel(tab: str) -> str:
    """The panel of a tab."""
    return f"#animatediff_{tab}"


def fill(page, values: dict[str, object]) -> None:
    """Types values into fields by their ids, the way a person does: and leaves the field."""
    for field, value in values.items():
        if inside := _OF_PANEL.fullmatch(field):
            open_fold(page, inside[2], inside[1])
        box = page.locator(f"#{field} textarea, #{field} input[type=number]").first
        box.fill(str(value))
        box.blur()


def fill_prompt_and_size(page, tab: str = "txt2img") -> None:
    fill(page, {f"{tab}_prompt": PAYLOAD["prompt"], f"{tab}_steps": 4, f"{tab}_seed": 1})
    fill(page, {f"{tab}_width": 64, f"{tab}_height": 64})
    choose_sampler(page, SAMPLER, tab)


def choose_sampler(page, name: str, tab: str = "txt2img") -> None:
    field = f"#{tab}_sampling input"
    if page.locator(field).input_value() != name:  # the default of AUTOMATIC1111 and reForge is Forge's second
        page.locator(field).click()
        page.locator(f"#{tab}_sampling {item(f'={name!r}')}").click()
        page.wait_for_function(f"document.querySelector('{field}').value == '{name}'")


def prose(element: str) -> str:
    """The text of a HTML field by its id: gradio 3 marks the field itself as prose, gradio 4 a part of it."""
    return f":is({element}.prose, {element} .prose)"


def open_tab(page, name: str) -> None:
    page.locator("#tabs button").filter(has_text=re.compile(rf"^\s*{name}\s*$", re.IGNORECASE)).first.click()


def open_accordion(page, tab: str = "txt2img") -> None:
    page.locator(f"#animatediff_{tab} .label-wrap").first.click()
    page.locator(f"#animatediff_{tab}_frames").wait_for(state="visible")


def open_panel(page, server, tab: str = "txt2img") -> None:
    open_page(page, server)
    if tab != "txt2img":  # which is open
        page.locator("#tabs button", has_text=tab).first.click()
    open_accordion(page, tab)


def item(entry: str) -> str:
    """An entry of an open list, by what its name is: ``="x"`` or, by its beginning, ``^="x"``; of gradio 3 or 4."""
    return f"li:is([data-value{entry}], [aria-label{entry}])"


def choose_refreshed(page, button: str, field: str, entry: str, tab: str = "txt2img") -> None:
    """Refreshes a field's list and takes an entry from it."""
    from playwright.sync_api import TimeoutError as PageTimeout  # without it, only the tests of pages skip

    page.locator(f"{panel(tab)}_{button}").click()
    box, choice = page.locator(f"{panel(tab)}_{field} input"), page.locator(f"{panel(tab)}_{field} {item(entry)}")
    for _ in range(40):  # the list is filled some time after the click, which closes it if it is open
        box.click()
        try:
            choice.click(timeout=500)
        except PageTimeout:
            box.blur()
        else:
            return
    choice.click()


def choose_module(page, name: str, tab: str = "txt2img") -> None:
    choose_refreshed(page, "refresh", "model", f'^="{name} ["', tab)
    page.wait_for_function(f"document.querySelector('{panel(tab)}_model input').value.startsWith('{name} [')")


def prepare_clip(page, server, frames: int, module: str = "mm_small_v3.safetensors", tab: str = "txt2img") -> None:
    open_panel(page, server, tab)
    fill_prompt_and_size(page, tab)
    choose_module(page, module, tab)
    fill(page, {f"animatediff_{tab}_frames": frames})


def generate(page, tab: str = "txt2img") -> None:
    page.locator(f"#{tab}_generate").click()
    page.locator(f"#{tab}_interrupt").wait_for(state="visible")
    page.locator(f"#{tab}_interrupt").wait_for(state="hidden", timeout=60_000)


def refusal(page) -> str:
    """What the page says to a request that is over before its buttons change."""
    page.locator("#txt2img_generate").click()
    error = page.locator("#html_log_txt2img .error")
    error.wait_for()
    return error.inner_text()


def shown_gif(page) -> bytes:
    """The file of the gallery's selected image: the player hides the image, and shows the file."""
    source = page.locator("#txt2img_gallery img[data-testid=detailed-image], #txt2img_gallery img").first
    source.wait_for(state="attached")
    answer = requests.get(source.get_attribute("src"), timeout=60)
    answer.raise_for_status()
    return answer.content


def open_fold(page, name: str, tab: str = "txt2img") -> None:
    """Opens the fold that holds a setting of the panel, if it is closed."""
    setting = SETTINGS.get(name)
    if setting is None or not setting.group:
        return
    fold = page.locator(f"{panel(tab)} .animatediff-fold", has_text=setting.group)
    heading = fold.locator("> .label-wrap").filter(has_text=re.compile(f"^{setting.group}"))
    if "open" not in heading.get_attribute("class").split():
        heading.click()
    field = f"{panel(tab)}_{name}{'_picture' * setting.image}"
    page.locator(field).wait_for(state="visible")


def choose(page, field: str, value: str) -> None:
    open_fold(page, field)
    page.locator(f"{PANEL}_{field} input").click()
    page.locator(f"{PANEL}_{field} {item(f'={value!r}')}").click()
    page.wait_for_function(f"document.querySelector('{PANEL}_{field} input').value == '{value}'")


def show_all_formats(page) -> None:
    more = page.locator(f"{PANEL}_formats .animatediff-more-formats")
    if more.get_attribute("aria-expanded") == "false":
        more.click()


def check(page, name: str, *, on: bool = True) -> None:
    open_fold(page, name)
    page.locator(f"{PANEL}_{name} input").set_checked(on)


def slide(page, field: str, value: float) -> None:
    fill(page, {f"animatediff_txt2img_{field}": value})


def paste(page, server, text: str) -> None:
    """Opens the page, puts a clip's text into the prompt and presses the arrow button, which reads it."""
    open_page(page, server)
    read_prompt(page, text)
    page.locator(f"{PANEL}_frames").wait_for(state="visible")


def read_prompt(page, text: str) -> None:
    page.locator("#txt2img_prompt textarea").fill(text)
    page.locator("#txt2img_tools #paste").click()
    seed = re.search(r"Seed: (\d+)", text)[1]
    page.wait_for_function(f"document.querySelector('#txt2img_seed input').value == '{seed}'")


def pasted(page, server, text: str) -> None:
    paste(page, server, text)
    generate(page)
