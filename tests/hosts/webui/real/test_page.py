"""The panel as a person uses it: fields that follow each other, both tabs, Reload UI, telephone, dark theme."""

from __future__ import annotations

import json
import re

import pytest
import requests
from support.webui_real.clicking import check, fill, open_accordion, open_fold, open_panel
from support.webui_real.clips import animate, clip_of
from support.webui_real.hosts import FORGE
from support.webui_real.server import open_page
from support.webui_real.studio import hooks_in_the_unet, portrait

from lib_animatediff.request.settings import SETTINGS, by_group

PHONE = {"width": 390, "height": 844}


def number(page, field: str) -> float:
    return float(page.locator(f"#animatediff_txt2img_{field} input[type=number]").first.input_value())


def wait_for_number(page, field: str, value: float) -> None:
    page.wait_for_function(
        f"Number(document.querySelector('#animatediff_txt2img_{field} input[type=number]').value) == {value}"
    )


@pytest.mark.shows("Panel: frames, frames per second and seconds linked")
def test_frames_speed_and_seconds_follow_each_other(studio, page):
    open_panel(page, studio)
    fill(page, {"txt2img_width": 512, "txt2img_height": 512})
    assert number(page, "seconds") == 2
    fill(page, {"animatediff_txt2img_frames": 24})
    wait_for_number(page, "seconds", 3)
    fill(page, {"animatediff_txt2img_fps": 12})
    wait_for_number(page, "seconds", 2)
    fill(page, {"animatediff_txt2img_seconds": 5})
    wait_for_number(page, "frames", 60)
    wait_for_number(page, "seconds", 5)
    check(page, "reverse")
    wait_for_number(page, "seconds", round(118 / 12, 3))
    fill(page, {"animatediff_txt2img_seconds": 1})
    wait_for_number(page, "frames", 7)
    page.locator("#animatediff_txt2img_plan p", has_text="12 frames, 512x512, 1 s long.").wait_for()


@pytest.mark.shows("Panel: frames, frames per second and seconds linked")
def test_seconds_act_while_they_are_typed(studio, page):
    """Ctrl+Enter makes a clip without leaving the field."""
    open_panel(page, studio)
    seconds = page.locator("#animatediff_txt2img_seconds input")
    seconds.fill("")
    seconds.press_sequentially("2.9")
    wait_for_number(page, "frames", 23)
    page.wait_for_timeout(300)
    assert seconds.input_value() == "2.9"
    page.locator("#animatediff_txt2img_plan p", has_text="23 frames").wait_for()


def test_seconds_become_those_of_whole_frames_when_the_field_is_left(studio, page):
    if studio.host is FORGE:
        pytest.skip("gradio 4 does not say that a field was left: its seconds stay as typed until Enter is pressed")
    open_panel(page, studio)
    seconds = page.locator("#animatediff_txt2img_seconds input")
    seconds.fill("2.9")
    wait_for_number(page, "frames", 23)
    seconds.blur()
    wait_for_number(page, "seconds", 2.875)


@pytest.mark.shows("Panel: help text", "Panel: both tabs independent")
def test_both_tabs_have_every_help_text_and_are_independent(studio, page):
    open_panel(page, studio)
    for tab in ("txt2img", "img2img"):
        text = page.locator(f"#animatediff_{tab}").text_content()
        for setting in SETTINGS.values():
            if setting.in_panel:
                assert setting.label in text
                assert setting.help in text
    fill(page, {"animatediff_txt2img_frames": 5})
    page.locator("#tabs button", has_text="img2img").first.click()
    assert not page.locator("#animatediff_img2img-checkbox input").is_checked()
    open_accordion(page, "img2img")
    assert page.locator("#animatediff_img2img_frames input[type=number]").input_value() == "16"
    fill(page, {"animatediff_img2img_frames": 9})
    page.locator("#tabs button", has_text="txt2img").first.click()
    assert number(page, "frames") == 5


@pytest.mark.shows("Panel: no frozen defaults in ui-config.json")
def test_no_default_is_frozen_in_ui_config(studio):
    """ui-config.json, where the WebUI keeps every field's first value and range for ever, holds none of ours."""
    kept = json.loads((studio.data_dir / "ui-config.json").read_text(encoding="utf-8"))
    assert len(kept) > 100
    assert not [key for key in kept if "animatediff" in key.lower()]
    ours = {"Reset", "Add a prompt at half time", "Try the built-in one", "Seconds", "Loop", "Add a motion LoRA"}
    ours |= {setting.label for setting in SETTINGS.values()}
    assert not [key for key in kept if key.startswith(("txt2img/", "img2img/")) and key.split("/")[1] in ours]


def answers(server) -> bool:
    """Whether the API is up again; it comes some time after the page."""
    try:
        return server.api("GET", "/trouble/registered", timeout=30).status_code == 200
    except requests.RequestException:
        return False


@pytest.mark.shows("Panel: Reload UI")
def test_reload_ui_leaves_nothing_doubled_and_nothing_dead(start_studio, page):
    reloadable = start_studio("reloadable", "v3")
    before = reloadable.api("GET", "/trouble/registered").json()
    assert "AnimateDiffScript" in before["scripts"]
    clip = clip_of(animate(reloadable)).frames
    for _ in range(2):
        open_page(page, reloadable)
        starts = len(re.findall("Startup time", reloadable.log_text()))
        page.locator("footer, #footer").get_by_text("Reload UI").first.click()
        for _ in range(240):
            page.wait_for_timeout(500)
            if len(re.findall("Startup time", reloadable.log_text())) > starts and answers(reloadable):
                break
        assert reloadable.api("GET", "/trouble/registered").json() == before
        assert reloadable.api("GET", "/animatediff/v1/version").status_code == 200
        assert (clip_of(animate(reloadable)).frames == clip).all()
        assert not hooks_in_the_unet(portrait(reloadable))
    reloadable.stop()


@pytest.mark.shows("Panel: phone width")
def test_at_phone_width(studio, page, screenshot):
    page.set_viewport_size(PHONE)
    open_panel(page, studio)
    ids = {s.name: f"#animatediff_txt2img_{s.name}{'_picture' * s.image}" for s in SETTINGS.values()}
    for members in by_group(SETTINGS.values()).values():
        open_fold(page, members[0].name)
    screenshot(page, "panel-phone")
    for setting in SETTINGS.values():
        if setting.in_panel:
            box = page.locator(ids[setting.name]).first.bounding_box()
            assert box["x"] >= 0
            assert box["x"] + box["width"] <= PHONE["width"], setting.name
            assert box["width"] >= 100, setting.name
    fill(page, {"animatediff_txt2img_frames": 12})
    wait_for_number(page, "seconds", 1.5)


@pytest.mark.shows("Panel: dark theme")
def test_in_the_dark_theme(studio, page, screenshot):
    page.goto(f"{studio.url}/?__theme=dark")
    page.locator("#tab_txt2img").wait_for(state="visible")
    open_accordion(page)
    screenshot(page, "panel-dark")
    colours = page.locator("#animatediff_txt2img_frames span").first.evaluate(
        r"""label => {
            const ground = part => getComputedStyle(part).backgroundColor
            let behind = label
            while (/^(transparent|rgba\(.*, 0\))$/.test(ground(behind))) behind = behind.parentElement
            return [getComputedStyle(label).color, ground(behind)]
        }"""
    )
    light, dark = (sum(int(part) for part in re.findall(r"\d+", colour)[:3]) for colour in colours)
    assert light > dark + 200


@pytest.mark.shows("Panel: settings page, old keys honoured")
def test_the_settings_page_holds_ours_and_the_old_keys(studio, page):
    keys = {"animatediff_model_path": "", "animatediff_mp4_crf": 30, "animatediff_webp_quality": 50}
    studio.post("/sdapi/v1/options", keys)
    # Forge's API shows its own options only.
    held = json.loads((studio.data_dir / "config.json").read_text(encoding="utf-8"))
    assert {key: held[key] for key in keys} == keys
    defaults = {"animatediff_mp4_crf": 18, "animatediff_webp_quality": 90}
    studio.post("/sdapi/v1/options", defaults)
    open_page(page, studio)
    page.locator("#tabs button").filter(has_text=re.compile(r"^\s*Settings\s*$")).first.click()
    page.locator("#settings button", has_text="AnimateDiff").click()
    page.get_by_text("Formats selected by default").wait_for()
