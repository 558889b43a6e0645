"""First steps by clicking: no motion module, a first file, the built-in model, and a list that follows."""

from __future__ import annotations

import pytest
from safetensors.torch import save_file
from support.motion_files import random_motion_state, write_motion_file
from support.webui_real.clicking import (
    PANEL,
    choose_refreshed,
    fill,
    fill_prompt_and_size,
    generate,
    open_accordion,
    open_panel,
    read_prompt,
    refusal,
    shown_gif,
)
from support.webui_real.clips import read_gif
from support.webui_real.places import REPOSITORY
from support.webui_real.server import CHECKPOINT, open_page

from lib_animatediff.builtin_model import POCKET, copy_to_webui

BLOCK = f"{PANEL}_first_steps"
FIELD = f"{PANEL}_model input"
MODULE = "mm_small_v3.safetensors [v3, SD 1.5]"
MARK = ": not for this checkpoint]"
WITHOUT_FILE = "Text2Video-Zero [no file, any checkpoint]"


@pytest.fixture(scope="module")
def fresh(start_webui):
    """The WebUI as a person first meets it."""
    return start_webui("first_steps", extensions=[REPOSITORY])


@pytest.fixture(autouse=True)
def empty_folder(fresh):
    for path in fresh.motion_modules_dir.iterdir():
        path.unlink()
    fresh.post("/sdapi/v1/options", {"sd_model_checkpoint": CHECKPOINT})


def wait_for_module(page, text: str) -> None:
    page.wait_for_function(f"document.querySelector({FIELD!r}).value === {text!r}")


def listed(page) -> list[str]:
    """What the opened list shows."""
    page.locator(FIELD).click()
    page.locator(f"{PANEL}_model li").first.wait_for()
    entries = page.locator(f"{PANEL}_model li").evaluate_all(
        "items => items.map(item => item.dataset.value ?? item.getAttribute('aria-label'))"  # of gradio 3 or 4
    )
    page.locator(FIELD).blur()
    return entries


def wait_for_list(page, wanted: list[str]) -> None:
    """The list shows what it held when it was opened."""
    for _ in range(40):
        if (found := listed(page)) == wanted:
            return
        page.wait_for_timeout(250)
    assert found == wanted


@pytest.mark.shows("Panel: says: no module")
def test_a_first_motion_module_is_found_and_stays_and_its_end_is_seen(fresh, page, screenshot):
    open_panel(page, fresh)
    block = page.locator(BLOCK)
    block.wait_for(state="visible")
    links = block.locator("a").evaluate_all("links => links.map(link => link.href)")
    base = "https://huggingface.co/guoyww/animatediff/resolve/main/"
    assert links == [base + name for name in ("v3_sd15_mm.ckpt", "mm_sd_v15_v2.ckpt", "mm_sdxl_v10_beta.ckpt")]
    assert block.locator("code").inner_text() == str(fresh.motion_modules_dir)
    assert page.locator(FIELD).input_value() == ""
    screenshot(page, "first_steps")
    path = write_motion_file(fresh.motion_modules_dir)
    page.locator(f"{PANEL}_refresh").click()
    wait_for_module(page, MODULE)
    block.wait_for(state="hidden")
    open_panel(page, fresh)
    wait_for_module(page, MODULE)
    assert listed(page) == [MODULE, WITHOUT_FILE]
    page.locator(BLOCK).wait_for(state="hidden")
    path.unlink()
    open_panel(page, fresh)
    page.locator(BLOCK).wait_for(state="visible")
    wait_for_module(page, "")
    wait_for_list(page, [WITHOUT_FILE])


@pytest.mark.shows("Panel: says: no module")
def test_without_a_page_load_a_file_that_went_is_seen_when_the_list_is_refreshed(fresh, page):
    path = write_motion_file(fresh.motion_modules_dir)
    open_panel(page, fresh)
    wait_for_module(page, MODULE)
    path.unlink()
    write_motion_file(fresh.motion_modules_dir, "v2")
    page.locator(f"{PANEL}_refresh").click()
    wait_for_module(page, "mm_small_v2.safetensors [v2, SD 1.5]")
    page.locator(BLOCK).wait_for(state="hidden")


def test_every_page_lists_the_files_even_with_the_accordion_closed_and_in_both_tabs(fresh, page):
    write_motion_file(fresh.motion_modules_dir)
    open_page(page, fresh)
    for tab in ("txt2img", "img2img"):
        page.wait_for_function(f"document.querySelector('#animatediff_{tab}_model input').value === {MODULE!r}")


def test_a_pasted_module_stays_when_the_list_of_a_new_page_arrives_after_it(fresh, page):
    """On a slow server; the list of the first page has another module, or none."""
    write_motion_file(fresh.motion_modules_dir)
    write_motion_file(fresh.motion_modules_dir, "v2")
    held = hold_answers(fresh, page, "_page_loaded")
    open_page(page, fresh)
    page.wait_for_function("animatediffListed.size === 2")
    read_prompt(
        page, 'a cat\nSteps: 2, Seed: 7, AnimateDiff: "enable: True, model: mm_small_v3.safetensors, frames: 2"'
    )
    page.locator(f"{PANEL}_frames").wait_for(state="visible")
    page.wait_for_timeout(500)
    assert len(held) == 2
    for route in held:
        route.continue_()
    wait_for_module(page, MODULE)
    page.wait_for_timeout(1000)
    assert page.locator(FIELD).input_value() == MODULE


def test_a_module_chosen_before_the_refreshed_list_arrives_stays(fresh, page):
    shown = "mm_small_v1.safetensors [v1, SD 1.5]"
    path = write_motion_file(fresh.motion_modules_dir, "v1")
    write_motion_file(fresh.motion_modules_dir, "v2")
    write_motion_file(fresh.motion_modules_dir)
    open_panel(page, fresh)
    wait_for_module(page, shown)
    wait_for_list(page, [shown, "mm_small_v2.safetensors [v2, SD 1.5]", MODULE, WITHOUT_FILE])
    path.unlink()  # so that the answer names another one
    held = hold_answers(fresh, page, "txt2img_refresh")
    page.locator(f"{PANEL}_refresh").click()
    page.locator(FIELD).click()
    page.locator(f"{PANEL}_model li", has_text=MODULE).click()
    wait_for_module(page, MODULE)
    assert held
    for route in held:
        route.continue_()
    page.wait_for_timeout(1000)
    assert page.locator(FIELD).input_value() == MODULE


def hold_answers(fresh, page, button: str) -> list:
    """Requests of the page after a press of buttons whose ids end so; they wait until they are continued."""
    config = fresh.api("GET", "/config").json()
    ids = {each["id"] for each in config["components"] if str(each["props"].get("elem_id")).endswith(button)}
    places = {number for number, each in enumerate(config["dependencies"]) if ids & _flat(each["targets"])}
    held: list = []
    page.route(
        "**/run/predict*",
        lambda route: held.append(route) if _number(route) in places else route.continue_(),
    )
    return held


def _number(route) -> int | None:
    """The number of the event that the page sends."""
    return (route.request.post_data_json or {}).get("fn_index")


def _flat(targets) -> set[int]:
    """Ids of the components of an event."""
    return {part for each in targets for part in (each if isinstance(each, (list, tuple)) else [each])}


def test_opening_the_accordion_lists_the_files(fresh, page):
    open_page(page, fresh)
    page.wait_for_function("animatediffListed.size === 2")
    page.wait_for_timeout(500)
    write_motion_file(fresh.motion_modules_dir)
    open_accordion(page)
    wait_for_module(page, MODULE)
    page.locator(BLOCK).wait_for(state="hidden")


def test_the_path_is_copied(fresh, page):
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    open_panel(page, fresh)
    page.locator(f"{BLOCK} .animatediff-copy-path").click()
    page.locator(f"{BLOCK} .animatediff-copy-path", has_text="Copied").wait_for()
    assert page.evaluate("navigator.clipboard.readText()") == str(fresh.motion_modules_dir)


@pytest.mark.shows("Panel: the built-in model with two clicks")
def test_the_built_in_model_is_tried_with_two_clicks(fresh, page, screenshot):
    open_panel(page, fresh)
    page.locator(f"{PANEL}_try_builtin").click()
    wait_for_module(page, f"{POCKET.motion} [v2, SD 1.5]")  # without the mark: its checkpoint is loaded
    header = ":is(.model_selection, #setting_sd_model_checkpoint) input"  # Forge's, and that of others
    page.wait_for_function(f"document.querySelector('{header}').value.startsWith('{POCKET.checkpoint}')")
    page.locator(BLOCK).wait_for(state="hidden")
    page.locator(".animatediff-advice", has_text="This built-in model is tiny").wait_for()
    assert page.locator("#txt2img_prompt textarea").input_value() == POCKET.prompt
    for name, value in (("width", "64"), ("height", "64"), ("cfg_scale", "3")):
        assert page.locator(f"#txt2img_{name} input[type=number]").input_value() == value
    screenshot(page, "built_in")
    generate(page)
    clip = read_gif(shown_gif(page))
    assert len(clip.frames) == 16
    assert clip.frames.shape[1:3] == (64, 64)
    assert f"model: {POCKET.motion}" in clip.comment
    assert "Model: pocket," in clip.comment
    # With the own checkpoint again, nothing fits, and the way to a motion module is back.
    page.evaluate(f"selectCheckpoint('{CHECKPOINT}')")
    wait_for_module(page, f"{POCKET.motion} [v2, SD 1.5{MARK}")
    page.locator(BLOCK, has_text="None of your motion modules fits the loaded checkpoint").wait_for()


def test_who_has_a_prompt_keeps_prompt_and_size(fresh, page):
    open_panel(page, fresh)
    fill(page, {"txt2img_prompt": "my prompt", "txt2img_width": 128})
    page.locator(f"{PANEL}_try_builtin").click()
    wait_for_module(page, f"{POCKET.motion} [v2, SD 1.5]")
    assert page.locator("#txt2img_prompt textarea").input_value() == "my prompt"
    assert page.locator("#txt2img_width input[type=number]").input_value() == "128"


def test_a_file_in_the_way_of_the_built_in_model_is_reported(fresh, page):
    theirs = fresh.motion_modules_dir / POCKET.motion
    theirs.write_text("mine")
    open_panel(page, fresh)
    page.locator(f"{PANEL}_try_builtin").click()
    page.locator(
        ".animatediff-advice", has_text=f"another file named {POCKET.motion}, which is not replaced"
    ).wait_for()
    assert theirs.read_text() == "mine"


@pytest.mark.shows("Panel: what does not fit is marked in the list")
def test_what_does_not_fit_is_marked_before_generate_and_comes_last(fresh, page):
    folder = fresh.motion_modules_dir
    write_motion_file(folder, "sdxl", name="a.safetensors")
    save_file(random_motion_state("v3", (64, 128, 256, 256)), folder / "b.safetensors")
    (folder / "c.ckpt").write_text("<!DOCTYPE html>")
    write_motion_file(folder)
    open_panel(page, fresh)
    wait_for_module(page, MODULE)
    marked = [f"a.safetensors [sdxl, SDXL{MARK}", f"b.safetensors [v3, SD 1.5{MARK}"]
    wait_for_list(page, [MODULE, *marked, "c.ckpt [a web page]", WITHOUT_FILE])
    for name, words in (("a", "but the checkpoint is Stable Diffusion 1.5"), ("b", "is for a model of another size")):
        choose_refreshed(page, "refresh", "model", f'^="{name}.safetensors ["')
        page.locator(".animatediff-advice", has_text=words).wait_for()
    fill_prompt_and_size(page)
    assert "b.safetensors is 64 channels wide" in refusal(page)


def test_the_marks_follow_a_checkpoint_that_is_chosen_in_the_header(fresh, page):
    copy_to_webui(fresh.data_dir, POCKET)
    fresh.post("/sdapi/v1/refresh-checkpoints")
    write_motion_file(fresh.motion_modules_dir)
    open_panel(page, fresh)
    wait_for_module(page, MODULE)
    page.evaluate(f"selectCheckpoint('{POCKET.checkpoint}')")
    wait_for_module(page, MODULE.replace("]", MARK))  # the choice stays
    page.locator(".animatediff-advice", has_text="is for a model of another size").wait_for()
    fitting = [f"{name} [v2, SD 1.5]" for name in sorted(POCKET.modules)]
    wait_for_list(page, [*fitting, MODULE.replace("]", MARK), WITHOUT_FILE])
    page.evaluate(f"selectCheckpoint('{CHECKPOINT}')")
    wait_for_module(page, MODULE)
    page.locator(".animatediff-advice", has_text="is for a model of another size").wait_for(state="detached")
