"""What a clip will take, told in the real WebUI before it is made: in the panel, in the log, and in the progress."""

from __future__ import annotations

import re

import pytest
from support.webui_real.clicking import PANEL, fill, generate, open_fold, prepare_clip, prose, slide
from support.webui_real.clips import animate
from support.webui_real.studio import HIRES, trouble

LINE = re.compile(r"AnimateDiff: (.*) in addition to the models")
LONG = {"frames": 12, "context_length": 8, "overlap": 2, "context_kind": "static"}
FREEINIT = {"freeinit_enable": True, "freeinit_iters": 3}
SHORT, VIEWS = {"frames": 4}, {**LONG, "views": True}
FREE = {**SHORT, **FREEINIT}
FOUR = "4 frames at once (4 steps: 4 UNet calls with up to 8 images), "
APART = "8 UNet calls with up to 4 images), 64x64, prompts of 15"
TOGETHER = "4 UNet calls with up to 8 images), 64x64, prompts of 15"
TOLD = {
    "short": (SHORT, {}, [FOUR + "64x64, prompts of 75"]),
    "windows": (LONG, {}, ["12 frames in 2 windows of 8 (4 steps: 8 UNet calls with up to 16 images), 64x64"]),
    "views": (VIEWS, {}, ["12 frames at once, with 2 views of 8 (4 steps: 4 UNet calls with up to 24"]),
    "two clips": (SHORT, {"batch_size": 2}, ["2 clips of 4 frames at once (4 steps: 4 UNet calls with up to 16"]),
    "long prompt": (SHORT, {"prompt": "red garden " * 16}, [APART]),
    "hires fix": (SHORT, HIRES, ["4 frames at once (4 steps", FOUR + "128x128"]),
    "FreeInit": (FREE, {}, ["12 UNet calls with up to 8 images"]),
    "coarse to fine": (FREE | {"freeinit_coarse": True}, {}, ["7 UNet calls with up to 8 images"]),
    "FreeInit, hires fix": (
        FREE,
        {**HIRES, "hr_second_pass_steps": 3},
        ["12 UNet calls with up to 8 images), 64x64", "3 UNet calls with up to 8 images), 128x128"],
    ),
    "FreeInit, preview": (FREE | {"preview": True}, {}, ["1 frame at once (4 steps: 4 UNet calls with up to 2"]),
    "preview": ({"frames": 9, "preview": True}, {}, ["1 frame at once (4 steps: 4 UNet calls with up to 2 images)"]),
}


def lines(server) -> list[str]:
    return LINE.findall(server.log_text())


@pytest.mark.shows("Views, preview, plan: the log tells what a clip takes, and takes that")
@pytest.mark.parametrize(("clip", "request_", "wanted"), TOLD.values(), ids=TOLD)
def test_the_log_tells_what_a_clip_takes(studio, clip, request_, wanted):
    """One line for each pass: frames, windows, calls, rows, size, tokens, memory; the calls are those that are made."""
    before = len(lines(studio))
    count = {"layer": "model.diffusion_model.middle_block.0", "call": 0}
    animate(studio, clip, **request_, **trouble(interrupt_at=count))
    told = lines(studio)[before:]
    assert len(told) == len(wanted), told
    if studio.host.is_patched:  # they make prompts equally long, so that cond and uncond share a call
        wanted = [TOGETHER if words is APART else words for words in wanted]
    assert all(words in line for words, line in zip(wanted, told, strict=True)), told
    promised = sum(int(count) for line in told for count in re.findall(r"(\d+) UNet calls", line))
    assert studio.api("GET", "/trouble/calls").json() == promised


@pytest.mark.shows("Views, preview, plan: the panel tells it, with windows and prompts")
def test_the_panel_tells_what_a_clip_takes(studio, page):
    prepare_clip(page, studio, 12)
    plan, windows, prompts = (page.locator(prose(f"{PANEL}_plan{part}")) for part in ("", "_windows", "_prompts"))
    plan.get_by_text(re.compile(r"^12 frames, 64x64, 1\.5 s long\. Needs about \S+ GB of \S+ GB free\.$")).wait_for()
    open_fold(page, "overlap")
    windows.get_by_text(
        "12 frames at once (4 steps: 4 UNet calls with up to 24 images), 64x64, prompts of 75"
    ).wait_for()
    slide(page, "context_length", 8)
    fill(page, {"animatediff_txt2img_overlap": 2, "txt2img_steps": 3})
    windows.get_by_text("windows of 8 (3 steps: ").wait_for()
    assert windows.locator("svg path").count() > 0
    open_fold(page, "travel_hold")
    fill(page, {"txt2img_prompt": "a photo\n0: a red cat\n4: a <blue> dog\n11: a cat", "txt2img_width": 128})
    plan.get_by_text("128x64").wait_for()
    prompts.get_by_text("What each frame gets: prompt").wait_for()
    rows = prompts.locator(".animatediff-travel tr").all_inner_texts()
    assert [row.split("\t")[0] for row in rows] == ["Frames", "0", "1-3", "4", "5-10", "11"]
    assert rows[2].split("\t")[1] == "a red cat -> a <blue> dog, 25 % .. 75 %"
    fill(page, {"txt2img_prompt": "0: a red cat\n12: a dog"})
    plan.get_by_text('Line 2 of the prompt, "12: a dog": the clip has no frame 12.').wait_for()
    fill(page, {"txt2img_prompt": "0: a red cat\n11: a dog"})
    windows.get_by_text("windows of 8 (3 steps: ").wait_for()
    told = windows.locator("p").first.inner_text().partition(" in addition")[0]
    before = len(lines(studio))
    generate(page)
    assert [line.rpartition(", about")[0] for line in lines(studio)[before:]] == [told.rpartition(", about")[0]]
    fill(page, {"txt2img_neg_prompt": "0: red\n5: blue"})
    prompts.get_by_text("What each frame gets: negative prompt").wait_for()
    page.locator(f"{PANEL} .label-wrap").first.click()
    plan = prose(f"{PANEL}_plan")
    page.wait_for_function(f"!document.querySelector('{plan}').textContent.includes('frames')")
