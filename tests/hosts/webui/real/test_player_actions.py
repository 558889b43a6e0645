"""What the buttons below the player do, and how the page shows refusals."""

from __future__ import annotations

import json

import numpy
import pytest
import requests
from support.webui_real.clicking import fill, generate, open_panel, refusal
from support.webui_real.player import PLAYER, contrast, file_of, frames_of_file, go_to, opened, play, stop
from support.webui_real.server import open_page

STATUS = ".animatediff-status"
PICTURE = "#img2img_image img"
ROUTE = "/animatediff/v1/open-folder"


def sent(page) -> numpy.ndarray:
    """The picture in img2img."""
    page.locator(PICTURE).first.wait_for()
    return opened(page.locator(PICTURE).first.get_attribute("src"))


@pytest.mark.shows("Player: frame to img2img, settings copied, folder opened")
def test_a_frame_goes_to_img2img_with_its_size(studio, page):
    play(page, studio, "GIF", width=128, height=64)
    frames = frames_of_file(file_of(page))
    for number in (3, 6):  # the second one replaces the first
        stop(page)
        go_to(page, number)
        page.locator(".animatediff-send-frame").click()
        page.locator("#tab_img2img").wait_for(state="visible")
        page.wait_for_function(
            f"document.querySelector('.animatediff-status').textContent == 'Frame {number} was sent.'"
        )
        page.wait_for_timeout(500)
        assert (sent(page) == frames[number - 1]).all()
        for side, pixels in {"width": "128", "height": "64"}.items():
            assert page.locator(f"#img2img_{side} input[type=number]").input_value() == pixels
        page.locator("#tabs button", has_text="txt2img").first.click()
        page.locator(f"{PLAYER} .animatediff-play[title=Play]").click()


@pytest.mark.shows("Player: frame to img2img, settings copied, folder opened")
@pytest.mark.parametrize("clipboard", ["of the browser", "by the old command"])
def test_the_settings_are_copied(studio, page, clipboard):
    if clipboard == "of the browser":
        page.context.grant_permissions(["clipboard-read", "clipboard-write"], origin=studio.url)
    else:  # as on an address that is not secure
        page.add_init_script("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    play(page, studio, "GIF", frames=2)
    page.locator(".animatediff-copy").click()
    page.locator(STATUS, has_text="The settings were copied.").wait_for()
    box = page.locator("#txt2img_neg_prompt textarea")
    box.focus()
    page.keyboard.press("Control+V")
    text = box.input_value()
    assert text.startswith("a photo of a cat\nSteps: 4")
    assert 'AnimateDiff: "enable: True' in text


@pytest.mark.shows("Player: frame to img2img, settings copied, folder opened")
def test_the_clips_folder_is_opened_on_this_machine(studio, page):
    asked = []

    def answer(route):
        asked.append(json.loads(route.request.post_data))
        route.fulfill(json={"opened": len(asked) == 1})

    page.route(f"**{ROUTE}", answer)
    play(page, studio, "MP4", frames=2)
    page.locator(".animatediff-open-folder").click()
    page.wait_for_timeout(300)
    assert asked == [{"file": str(file_of(page))}]
    assert page.locator(STATUS).inner_text() == ""
    page.locator(".animatediff-open-folder").click()
    page.locator(STATUS, has_text="The folder could not be opened.").wait_for()
    page.evaluate("document.querySelector('#txt2img_open_folder').remove()")  # as with --hide-ui-dir-config
    generate(page)
    page.locator(".animatediff-copy").wait_for()
    page.wait_for_function("document.querySelector('.animatediff-status').textContent == ''")  # the next clip's row
    assert page.locator(".animatediff-open-folder").count() == 0


def test_no_folder_of_another_file_is_opened(studio):
    asked = {"file": str(studio.data_dir / "config.json")}
    answer = studio.api("PUT", ROUTE, asked)
    assert (answer.status_code, answer.json()) == (200, {"opened": False})


def test_pages_of_other_sites_cannot_ask_for_a_folder(studio):
    """They can send POST without asking; of PUT the browser asks the server first, which does not consent."""
    assert studio.api("POST", ROUTE, {"file": "clip.gif"}).status_code == 405
    headers = {"Origin": "http://elsewhere.example", "Access-Control-Request-Method": "PUT"}
    consent = requests.options(f"{studio.url}{ROUTE}", headers=headers, timeout=30)
    assert "access-control-allow-origin" not in consent.headers


@pytest.mark.shows("Errors: without class name, with a link to the explanation")
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_refusal_is_red_without_a_class_and_links_to_its_explanation(studio, page, screenshot, theme):
    page.add_init_script(f"if (!location.search) location.search = '?__theme={theme}'")
    open_panel(page, studio)
    fill(page, {"animatediff_txt2img_frames": 99999})
    assert "frames must be between" in refusal(page)
    page.locator("#html_log_txt2img .animatediff-error a").wait_for()
    error = page.locator("#html_log_txt2img .animatediff-error")
    assert error.inner_text() == "frames must be between 0 and 10000, not 99999. AD-C09"
    theirs = """e => {
        const probe = document.createElement('p');
        probe.style.color = 'var(--error-text-color)';
        e.after(probe);
        return getComputedStyle(e).color === getComputedStyle(probe).color;
    }"""
    assert error.evaluate(theirs)
    assert contrast(page, "#html_log_txt2img .animatediff-error") >= 4.5
    assert contrast(page, "#html_log_txt2img .animatediff-error a") >= 4.5
    screenshot(page, f"error-{theme}")
    with page.context.expect_page() as found:
        error.locator("a").click()
    help_page = found.value
    help_page.wait_for_load_state()
    assert help_page.url.endswith("/animatediff/v1/troubleshooting#AD-C09")
    row = help_page.locator("tr:has(#AD-C09), .line:is(#AD-C09, :has(#AD-C09))")  # or text, without a Markdown library
    assert "The number is out of range." in row.inner_text()
    assert row.evaluate("e => getComputedStyle(e).outlineStyle") == "solid"
    screenshot(help_page, f"help-{theme}")


def test_what_an_error_quotes_stays_text(studio, page):
    open_page(page, studio)
    message = "ClipError: <img src=x onerror=alert(1)> [AD-C01] and `AD-C02`"
    page.evaluate(
        """(text) => {
            const error = document.createElement('div');
            error.className = 'error';
            error.textContent = text;
            document.querySelector('#html_log_txt2img').append(error);
        }""",
        message,
    )
    error = page.locator("#html_log_txt2img .animatediff-error")
    error.wait_for()
    assert error.inner_text() == "<img src=x onerror=alert(1)> AD-C01 and `AD-C02`"
    assert error.locator("img").count() == 0
    assert [link.inner_text() for link in error.locator("a").all()] == ["AD-C01", "AD-C02"]


def test_errors_of_others_are_left_as_they_are(studio, page):
    open_page(page, studio)
    page.evaluate(
        "document.querySelector('#html_log_txt2img').innerHTML = '<div class=error>OutOfMemoryError: no memory</div>'"
    )
    page.wait_for_timeout(600)
    assert page.locator("#html_log_txt2img .error").inner_text() == "OutOfMemoryError: no memory"
    assert page.locator(".animatediff-error").count() == 0
