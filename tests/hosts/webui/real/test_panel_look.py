"""How the panel looks and feels on the real page: size, help, folds, keyboard, both themes, accessibility."""

from __future__ import annotations

import pytest
from support.motion_files import write_motion_file
from support.webui_real.accessibility import violations
from support.webui_real.clicking import (
    PANEL,
    check,
    choose,
    choose_module,
    fill,
    item,
    open_accordion,
    open_fold,
    open_panel,
    paste,
)

from lib_animatediff.request.settings import SETTINGS, by_group

FIRST_VIEW = 420  # pixels, at 1,280 px
NARROW = 400
GROUPS = [group for group in by_group(s for s in SETTINGS.values() if s.in_panel) if group]
# Helps are in a box that is as wide as the panel; the lines that a text needs, from its height and its line height.
LINES = """e => Math.round(e.getBoundingClientRect().height / parseFloat(getComputedStyle(e).lineHeight))"""


def set_width(page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 1000})


def open_in(page, server, *, dark: bool = False) -> None:
    page.goto(f"{server.url}/?__theme={'dark' if dark else 'light'}")
    page.locator("#tab_txt2img").wait_for(state="visible")
    open_accordion(page)
    choose_module(page, "mm_small_v3.safetensors")
    page.locator(f"{PANEL}_plan p").first.wait_for()


def open_all_folds(page) -> None:
    for members in by_group(s for s in SETTINGS.values() if s.in_panel).values():
        open_fold(page, members[0].name)


@pytest.mark.shows("Panel: first view of at most 420 px")
def test_the_first_view_is_low(studio, page):
    set_width(page, 1280)
    open_in(page, studio)
    assert page.locator(PANEL).bounding_box()["height"] <= FIRST_VIEW, page.locator(PANEL).inner_text()
    for name in ("model", "frames", "fps", "seconds", "loop", "formats", "plan"):
        assert page.locator(f"{PANEL}_{name}").first.is_visible()
    shown = page.locator(f"{PANEL}_formats label:visible").all_inner_texts()
    assert [text.strip() for text in shown] == ["GIF", "MP4", "WEBP"]
    page.locator(f"{PANEL}_formats .animatediff-more-formats").click()
    assert page.locator(f"{PANEL}_formats label:visible").count() == len(SETTINGS["formats"].choices)
    assert page.locator(f"{PANEL}_formats label", has_text="TXT").get_attribute("title") == "the settings as text"
    page.locator(f"{PANEL}_formats label", has_text="AVIF").locator("input").check()
    page.locator(f"{PANEL}_formats .animatediff-more-formats").click()
    assert page.locator(f"{PANEL}_formats label:visible").count() == 4  # what is selected stays in view


@pytest.mark.shows("Panel: help of at most two lines, by mouse, touch and keyboard")
@pytest.mark.parametrize("width", [1280, 1920])
def test_every_help_has_at_most_two_lines(studio, page, width):
    set_width(page, width)
    open_in(page, studio)
    open_all_folds(page)
    box = page.locator(f"{PANEL} > .animatediff-help")
    signs = page.locator(f"{PANEL} .animatediff-sign")
    assert signs.count() >= len([s for s in SETTINGS.values() if s.in_panel])
    for sign in signs.all():
        sign.click()
        texts = box.locator("p")
        assert texts.count() >= 1
        assert max(texts.nth(i).evaluate(LINES) for i in range(texts.count())) <= 2, box.inner_text()
        sign.click()
        assert box.is_hidden()
    plain = page.locator(
        f"{PANEL} :is(.animatediff-reasons, .animatediff-fold > div > .gap > .block .animatediff-plan)"
    )
    lines = plain.evaluate_all(f"all => all.filter(e => !e.closest('[id$=_plan_windows]')).map({LINES})")
    assert len(lines) > 3
    assert max(lines) <= 2


@pytest.mark.shows("Panel: help of at most two lines, by mouse, touch and keyboard")
def test_help_by_mouse_and_keyboard(studio, page):
    open_in(page, studio)
    open_fold(page, "noise")
    box = page.locator(f"{PANEL} > .animatediff-help")
    sign = page.locator(f"{PANEL}_noise .animatediff-sign")
    sign.hover()
    assert box.locator("p").all_inner_texts() == [SETTINGS["noise"].help, "random: another one in each frame."]
    page.mouse.move(0, 0)
    assert box.is_hidden()
    sign.focus()
    page.keyboard.press("Enter")
    assert sign.get_attribute("aria-expanded") == "true"
    assert box.is_visible()
    page.keyboard.press("Escape")
    assert box.is_hidden()
    described = page.locator(f"{PANEL}_noise input").get_attribute("aria-describedby")
    assert page.locator(f"#{described}").text_content() == SETTINGS["noise"].help
    page.locator(f"{PANEL}_noise input").click()
    told = page.locator(f"{PANEL}_noise {item('=shared')}").evaluate("e => getComputedStyle(e, '::after').content")
    assert told == '": partly the same in all frames"'


@pytest.mark.shows("Panel: folds by task, marked when changed, reset with one press")
def test_a_changed_fold_is_marked_and_reset_with_one_press(studio, page):
    open_in(page, studio)
    assert page.locator(f"{PANEL} .animatediff-fold > .label-wrap").evaluate_all(
        "all => all.map(e => e.firstElementChild.textContent.trim())"
    ) == [*GROUPS, "Settings of a clip"]
    fill(page, {"animatediff_txt2img_scale": "0.8", "animatediff_txt2img_motion_loras": "pan:1"})
    check(page, "preview")
    motion = page.locator(f"{PANEL} [aria-label='Motion, 2 changed']")
    motion.wait_for()
    page.locator(f"{PANEL} [aria-label='Speed, 1 changed']").wait_for()
    assert page.locator(f"{PANEL} .animatediff-changed").count() == 2
    page.locator(f"{PANEL}_reset_motion").click()
    motion.wait_for(state="detached")
    assert page.locator(f"{PANEL}_scale textarea").input_value() == "1"
    assert page.locator(f"{PANEL}_motion_loras textarea").input_value() == ""
    assert page.locator(f"{PANEL}_preview input").is_checked()
    assert page.locator(f"{PANEL}_reset_motion").is_hidden()


@pytest.mark.shows("Panel: one control for loops")
def test_the_loop_sets_closed_loop_and_reverse_and_follows_them(studio, page):
    def loop() -> str:
        return page.locator(f"{PANEL}_loop input").input_value()

    def settings() -> list:
        field, box = page.locator(f"{PANEL}_closed_loop input"), page.locator(f"{PANEL}_reverse input")
        return [field.input_value(), box.is_checked()]

    open_in(page, studio)
    for name, values in {"Seamless": ["A", False], "Back and forth": ["N", True], "Off": ["N", False]}.items():
        choose(page, "loop", name)
        page.wait_for_function(f"document.querySelector('{PANEL}_closed_loop input').value == '{values[0]}'")
        page.wait_for_timeout(300)
        assert settings() == values
    choose(page, "closed_loop", "R-P")
    page.wait_for_function(f"document.querySelector('{PANEL}_loop input').value == 'Custom (Advanced)'")
    choose(page, "closed_loop", "A")
    page.wait_for_function(f"document.querySelector('{PANEL}_loop input').value == 'Seamless'")
    check(page, "reverse")
    page.wait_for_function(f"document.querySelector('{PANEL}_loop input').value == 'Custom (Advanced)'")
    assert settings() == ["A", True]
    choose(page, "loop", "Off")
    page.wait_for_timeout(300)
    assert settings() == ["N", False]
    assert loop() == "Off"


@pytest.mark.shows("Panel: one control for loops")
@pytest.mark.parametrize(
    ("settings", "shown"),
    [
        ("closed_loop: A, reverse: False", "Seamless"),
        ("closed_loop: N, reverse: True", "Back and forth"),
        ("closed_loop: R+P, reverse: False", "Custom (Advanced)"),
    ],
)
def test_a_pasted_text_sets_the_loop(studio, page, settings, shown):
    """Of a clip that was made before this field was there."""
    clip = f"enable: True, model: mm_small_v3.safetensors, frames: 16, fps: 8, {settings}, formats: GIF"
    paste(page, studio, f'a cat\nSteps: 4, Sampler: Euler a, CFG scale: 7, Seed: 3, Size: 64x64, AnimateDiff: "{clip}"')
    page.wait_for_function(f"document.querySelector('{PANEL}_loop input').value == '{shown}'")


@pytest.mark.shows("Panel: a prompt at half time by a button")
def test_a_prompt_at_half_time(studio, page):
    open_in(page, studio)
    fill(page, {"txt2img_prompt": "a photo of a cat"})
    open_fold(page, "travel_hold")
    page.locator(f"{PANEL}_add_prompt").click()
    page.wait_for_timeout(500)  # gradio 4 writes the prompt once more, as fast as no hand types
    page.keyboard.type("a photo of a dog")
    assert page.locator("#txt2img_prompt textarea").input_value() == "0: a photo of a cat\n8: a photo of a dog"
    page.locator("#txt2img_seed input").focus()
    page.locator(f"{PANEL}_plan_prompts .animatediff-travel").wait_for()
    fill(page, {"txt2img_prompt": "a photo of a cat\n8: a photo of a dog"})
    page.locator(f"{PANEL}_plan p", has_text="All frames get the same prompt").wait_for()


@pytest.mark.shows("Panel: the plan is that of the values shown")
def test_the_plan_is_that_of_the_values_shown(studio, page):
    """Keys without a gap: an answer to the first one must not stay."""
    open_in(page, studio)
    frames = page.locator(f"{PANEL}_frames input")
    for number in ("48", "16", "123", "7"):
        frames.fill("")
        frames.press_sequentially(number, delay=0)
        page.locator(f"{PANEL}_plan p", has_text=f"{number} frames, ").wait_for()
        page.wait_for_timeout(500)
        assert page.locator(f"{PANEL}_plan p").first.inner_text().startswith(f"{number} frames, ")


@pytest.mark.shows("Panel: 400 px wide, nothing overflows")
@pytest.mark.parametrize("width", [NARROW, 640], ids=["narrow, or 800 px at 200 %", "1280 px at 200 %"])
def test_nothing_overflows_at_400_px(studio, page, width):
    """A browser's zoom of 200 % leaves a page half of its width."""
    set_width(page, width)
    open_in(page, studio)
    open_all_folds(page)
    edge = page.locator(PANEL).evaluate("e => e.getBoundingClientRect().right + 1")
    inside = f"{PANEL} :is(input, textarea, button, label, p, svg, .animatediff-fold):visible"
    out = page.locator(inside).evaluate_all(
        "(all, edge) => all.filter(e => e.getBoundingClientRect().right > edge).map(e => e.outerHTML.slice(0, 150))",
        edge,
    )
    assert out == []


@pytest.mark.shows("Panel: keyboard through everything")
def test_the_keyboard_reaches_every_field(studio, page):
    open_in(page, studio)
    page.locator(f"{PANEL}_model input").focus()
    heading = page.locator(f"{PANEL} .animatediff-fold > .label-wrap", has_text="Noise")
    for _ in range(60):
        page.keyboard.press("Tab")
        if heading.evaluate("e => e === document.activeElement"):
            break
    assert heading.evaluate("e => getComputedStyle(e).outlineStyle") != "none"
    assert heading.get_attribute("aria-expanded") == "false"
    page.keyboard.press("Enter")
    page.locator(f"{PANEL}_noise").wait_for(state="visible")
    assert heading.get_attribute("aria-expanded") == "true"
    reached = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.closest('.block[id]')?.id"))
    names = [s.name for s in SETTINGS.values() if s.group == "Noise"]
    assert {f"animatediff_txt2img_{name}" for name in names} <= reached


@pytest.mark.shows("Panel: no violation of WCAG A or AA, in both themes")
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_nothing_in_the_panel(studio, page, dark):
    open_in(page, studio, dark=dark)
    assert violations(page, PANEL) == []
    open_all_folds(page)
    check(page, "preview")
    page.locator(f"{PANEL} .animatediff-changed").wait_for()
    page.locator(f"{PANEL}_noise .animatediff-sign").click()
    assert violations(page, PANEL) == []


def test_right_to_left_keeps_the_fields_in_the_panel(studio, page):
    write_motion_file(studio.motion_modules_dir)
    open_panel(page, studio)
    page.evaluate("document.documentElement.dir = 'rtl'")
    sign = page.locator(f"{PANEL}_frames .animatediff-sign").bounding_box()
    field = page.locator(f"{PANEL}_frames").bounding_box()
    assert field["x"] <= sign["x"] < field["x"] + field["width"] / 2
