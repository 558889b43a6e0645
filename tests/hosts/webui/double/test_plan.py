"""What the panel and the log tell before a clip is painted, as it follows from the settings and from the page."""

from __future__ import annotations

import html
import json
import re
import sys
import xml.etree.ElementTree as ET
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from support.plans import plan_of
from support.webui_double import double
from support.webui_double.double import shared

from lib_animatediff.request.effects import EFFECTS
from lib_animatediff.request.estimate import ClipEstimate, in_plain_words, one_line
from lib_animatediff.request.settings import context_windows, parse_settings
from lib_animatediff.request.window_map import window_map

GIB = 2**30
SETTINGS = {"enable": True, "model": "mm.safetensors", "frames": 48}
PAGE = {
    "prompt": "a cat",
    "negative_prompt": "bad",
    "width": 640,
    "height": 512,
    "steps": 10,
    "batch_size": 2,
}
WRONG = "0: a\n48: <i>b"
SEASONS = "a tree\n0: spring\n24: <b>summer</b>\n47: autumn\nsharp"


@pytest.fixture
def hijack(webui):
    return webui.module("sd_hijack").model_hijack


@pytest.fixture
def plan(webui, monkeypatch):
    """Our functions, on a machine with 100 GiB of free memory."""
    module = webui.module("ui.plan_view")
    monkeypatch.setattr(module, "free_memory", lambda: 100 * GIB)
    return module


def estimate(frames=48, **changes):
    """The core's estimate for the settings and the page above, in the double's float32."""
    windows = context_windows(parse_settings({**SETTINGS, "frames": frames}))
    numbers = {"width": 640, "height": 512, "steps": 10, "clips": 2, "number_bytes": 4, "free": 100 * GIB}
    return ClipEstimate(**{"base": "sd15", "frames": frames, "windows": windows, **numbers, **changes})


def expected(frames=48, **changes):
    """The line of the log for this estimate."""
    return one_line(estimate(frames, **changes))


def line_of(page):
    """The text of the plan's first line, as a browser shows it."""
    line = next(ET.fromstring(f"<div>{page}</div>").iter("p"))
    assert "animatediff-plan" in line.get("class").split()
    return line.text


def calls_line(plan, settings=SETTINGS, page=PAGE):
    """The panel's line about UNet calls and memory, as the log begins it."""
    return f"AnimateDiff: {line_of(plan.view_plan(settings, page).windows)}"


def rows_of(plan, settings, page, name="prompt"):
    """The travel table of a prompt."""
    for part in ET.fromstring(f"<div>{plan.view_plan(settings, page).prompts}</div>").iterfind("div"):
        if part.find("b").text == f"What each frame gets: {name}":
            return [tuple(cell.text for cell in row.findall("td")) for row in part.iter("tr")][1:]
    return None


def marks_of(plan, **settings):
    """The settings that the page is told to grey and to mark."""
    page = ET.fromstring(f"<div>{plan.view_plan({**SETTINGS, **settings}, PAGE).summary}</div>")
    (marks,) = page.iterfind("div[@data-marks]")
    return json.loads(marks.get("data-marks"))


def test_the_panel_says_what_a_clip_will_take(plan):
    assert calls_line(plan) == expected()
    usual = expected(width=512, height=512, steps=20, clips=1)  # the WebUI's defaults
    assert calls_line(plan, page=dict.fromkeys(PAGE)) == calls_line(plan, page={}) == usual


def test_the_panel_says_in_plain_words_what_will_be_made(plan):
    summary = line_of(plan.view_plan(SETTINGS, PAGE).summary)
    assert summary == in_plain_words(estimate(), 48, 8.0)
    assert re.fullmatch(r"2 clips of 48 frames, 640x512, 6 s long\. Needs about \S+ GB of 100\.0 GB free\.", summary)
    short = {**SETTINGS, "frames": 16, "fps": 12}
    assert line_of(plan.view_plan(short, {**PAGE, "batch_size": 1}).summary).startswith(
        "16 frames, 640x512, 1.3 s long. "
    )
    back = line_of(plan.view_plan({**short, "reverse": True}, PAGE).summary)
    assert back.startswith("2 clips of 30 frames, 640x512, 2.5 s long. ")
    assert line_of(plan.view_plan({**short, "preview": True}, PAGE).summary).startswith("2 clips of 1 frame, ")
    more = line_of(plan.view_plan({**short, "interpolate": "x2"}, PAGE).summary)
    assert more.startswith("2 clips of 16 frames, 640x512, interpolated to 32 at 24 frames per second, 1.3 s long. ")


def test_what_does_not_fit_is_marked(plan, monkeypatch):
    assert "animatediff-advice" not in plan.view_plan(SETTINGS, PAGE).summary
    monkeypatch.setattr(plan, "free_memory", lambda: GIB)
    summary = plan.view_plan(SETTINGS, PAGE).summary
    assert line_of(summary) == in_plain_words(estimate(free=GIB), 48, 8.0)
    assert "but only" in line_of(summary) or "only 1.0 GB are free" in line_of(summary)
    assert "animatediff-advice" in summary


@pytest.mark.parametrize(
    ("frames", "page", "told"),
    [
        ("<many>", {}, "frames must be a whole number, not '<many>'. [AD-C08]"),
        (48, {"prompt": WRONG}, 'Line 2 of the prompt, "48: <i>b": the clip has no frame 48.'),
        (48, {"negative_prompt": WRONG}, 'Line 2 of the negative prompt, "48: <i>b": the clip has no frame 48.'),
    ],
)
def test_what_is_wrong_is_told_instead(plan, frames, page, told):
    view = plan.view_plan({**SETTINGS, "frames": frames}, {**PAGE, **page})
    assert line_of(view.summary).startswith(told)
    assert view.windows == view.prompts == ""


def test_sdxl_and_half_precision_are_seen_from_the_checkpoint(plan, checkpoint, monkeypatch):
    monkeypatch.setattr(checkpoint, "is_sdxl", True)
    assert calls_line(plan) == expected(base="sdxl")
    half = SimpleNamespace(parameters=lambda: iter([torch.zeros(1, dtype=torch.float16)]))
    monkeypatch.setattr(shared, "sd_model", SimpleNamespace(model=SimpleNamespace(diffusion_model=half)))
    assert calls_line(plan) == expected(number_bytes=2)


def test_before_a_checkpoint_is_loaded_nothing_is_said_of_free_memory(plan, hijack):
    double.shared.sd_model = None
    hijack.get_prompt_lengths = None  # asking it would load one
    assert calls_line(plan) == expected(free=None)


@pytest.mark.parametrize(
    ("prompt", "options", "changes"),
    [
        ("a cat", {"batch_cond_uncond": False}, {"streams_per_call": 1}),
        ("word " * 80, {}, {"streams_per_call": 1, "tokens": 150}),  # uncond is shorter
        ("word " * 80, {"pad_cond_uncond": True}, {"tokens": 150}),
        ("a cat AND a dog", {}, {"streams": 3, "streams_per_call": 3}),
        ("a cat AND a dog AND a fox", {}, {"streams": 4, "one_clip_per_call": True}),
    ],
)
def test_the_line_goes_by_what_the_webui_puts_into_one_call(plan, prompt, options, changes):
    shared.opts.data.update(options)
    assert calls_line(plan, page={**PAGE, "prompt": prompt}) == expected(**changes)


@pytest.mark.parametrize(("frames", "mixed"), [(4, False), (5, False), (5, True)])
def test_the_line_tells_the_calls_that_a_run_makes(plan, webui, monkeypatch, frames, mixed):
    """The double's sampler has one step, and the core's windows are its own to count."""
    said = []
    settings = {**SETTINGS, "frames": frames, "context_length": 4}
    prompt = "a cat AND a dog AND a fox" if mixed else "a cat"
    unet_calls = []
    first = shared.sd_model.model.diffusion_model.input_blocks[0]
    handle = first.register_forward_pre_hook(lambda _layer, args: unet_calls.append(len(args[0])))

    def before(p):
        said.append(plan.estimate_line(p, plan_of(**settings), p.prompts))

    shared.during_sampling = before
    webui.paint(settings, prompt=prompt, batch_size=2, steps=1)
    handle.remove()
    (line,) = said
    calls = "UNet call" if len(unet_calls) == 1 else "UNet calls"
    assert f"(1 step: {len(unet_calls)} {calls} with up to {max(unet_calls)} images)" in line
    assert f"2 clips of {frames} frames" in line
    assert "8x8" in line


ROWS = ["a cat"] * 2 * 48


def p_of(**fields):
    given = {"prompts": ROWS, "negative_prompts": ["bad"] * len(ROWS), "width": 640, "height": 512, "steps": 10}
    return SimpleNamespace(**{**given, **fields})


def test_the_log_says_the_same_as_the_panel(plan):
    assert plan.estimate_line(p_of(), plan_of(**SETTINGS), ROWS) == calls_line(plan)


def test_the_second_pass_has_prompts_and_a_size_of_its_own(plan):
    rows = ["a cat AND a dog AND a fox"] * 48
    said = plan.estimate_line(p_of(), plan_of(**SETTINGS), rows, (1280, 1024))
    second = {"clips": 1, "width": 1280, "height": 1024, "streams": 4, "one_clip_per_call": True}
    assert said == expected(**second)
    freeinit = plan_of(**SETTINGS, freeinit_enable=True)  # which leaves the second pass alone
    p = p_of(hr_second_pass_steps=7)
    assert plan.estimate_line(p, freeinit, rows, (1280, 1024)) == expected(**second, steps=7)


def test_a_run_on_pictures_takes_part_of_the_steps(plan):
    """As sd_samplers_common.setup_img2img_steps counts them."""
    p = p_of(init_images=[], denoising_strength=0.75, steps=20)
    made = plan_of(**SETTINGS)
    assert plan.estimate_line(p, made, ROWS) == expected(steps=16)
    p.denoising_strength = 1.0
    assert plan.estimate_line(p, made, ROWS) == expected(steps=20)
    p.denoising_strength = 0.75
    assert plan.estimate_line(p_of(denoising_strength=0.75), made, ROWS) == expected()
    shared.opts.img2img_fix_steps = True
    assert plan.estimate_line(p, made, ROWS) == expected(steps=20)


def test_the_map_of_the_windows_is_in_the_fold_of_long_clips(plan):
    windows = context_windows(parse_settings(SETTINGS))
    assert f">{window_map(windows, 48, 10)}</div>" in plan.view_plan(SETTINGS, PAGE).windows
    assert "<svg" not in plan.view_plan({**SETTINGS, "frames": 16}, PAGE).windows


def test_the_table_says_what_each_frame_gets(plan):
    page = {**PAGE, "prompt": SEASONS}
    assert rows_of(plan, SETTINGS, page) == [
        ("0", "spring"),
        ("1-23", "spring -> <b>summer</b>, 4 % .. 96 %"),
        ("24", "<b>summer</b>"),
        ("25-46", "<b>summer</b> -> autumn, 4 % .. 96 %"),
        ("47", "autumn"),
    ]
    assert rows_of(plan, SETTINGS, page, "negative prompt") is None
    assert rows_of(plan, SETTINGS, PAGE) is None


@pytest.mark.parametrize(
    ("settings", "row"),
    [
        ({"travel_interpolation": "step"}, ("0-23", "spring")),
        ({"travel_hold": 0.5}, ("0-12", "spring")),
        ({"travel_easing": "ease-in"}, ("1-23", "spring -> <b>summer</b>, 0 % .. 92 %")),
        ({"closed_loop": "R+P"}, ("0", "spring")),
    ],
)
def test_the_table_goes_by_the_settings(plan, settings, row):
    assert row in rows_of(plan, {**SETTINGS, **settings}, {**PAGE, "prompt": SEASONS})


def test_each_frames_prompt_counts_its_tokens(plan):
    prompt = f"0: spring\n8: {'word ' * 80}"
    assert "prompts of 150 tokens" in calls_line(plan, page={**PAGE, "prompt": prompt})
    together = f"{'word ' * 40}\n0: {'spring ' * 30}\n8: {'summer ' * 30}"
    assert "prompts of 75 tokens" in calls_line(plan, page={**PAGE, "prompt": together})


@pytest.mark.parametrize(
    ("texts", "tokens"),
    [
        ([""], 75),
        ([], 75),
        (["word " * 75], 75),
        (["word " * 76], 150),
        (["a", "word " * 160, "b"], 225),
        ([f"{'word ' * 75}<lora:one:1> <lora:two and three:0.5>"], 75),
        ([f"{'word ' * 70} AND {'word ' * 70}"], 75),
        ([f"{'word ' * 70} SAND {'word ' * 70}"], 150),
    ],
)
def test_tokens_are_those_of_the_longest_part(plan, texts, tokens):
    assert plan.token_count(texts) == tokens


def test_before_the_text_encoder_is_ready_a_prompt_is_one_chunk(plan, hijack):
    hijack.get_prompt_lengths = lambda text: ("-", "-")
    assert plan.token_count(["word " * 100]) == 75


def test_free_memory_is_the_machines_where_it_tells(webui, monkeypatch):
    module = webui.module("ui.plan_view")
    psutil = SimpleNamespace(virtual_memory=lambda: SimpleNamespace(available=12345, free=1))
    monkeypatch.setattr(module, "find_spec", lambda name: name == "psutil")
    monkeypatch.setattr(module, "import_module", lambda name: {"psutil": psutil}[name])
    assert module.free_memory() == 12345
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    assert module.free_memory() is None


def on_a_card(monkeypatch, free, reserved=0, allocated=0):
    """A graphics card with so much memory left, of which torch keeps some."""
    device = torch.device("cuda", 1)
    shared.device = device
    sys.modules["modules.shared"].device = device

    def told(value):
        return lambda asked: value if asked == device else None

    monkeypatch.setattr(torch.cuda, "mem_get_info", told((free, 99 * GIB)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", told(reserved))
    monkeypatch.setattr(torch.cuda, "memory_allocated", told(allocated))


def test_what_torch_keeps_for_itself_is_free_for_us(webui, monkeypatch):
    on_a_card(monkeypatch, free=5000, reserved=700, allocated=200)
    assert webui.module("ui.plan_view").free_memory() == 5500


def test_weights_that_are_still_to_come_to_the_card_take_their_memory(webui, monkeypatch, checkpoint, motion_file):
    """The double's UNet lies in main memory, and so does the motion module."""
    on_a_card(monkeypatch, free=100 * GIB)
    unet = sum(weight.nbytes for weight in checkpoint.model.diffusion_model.parameters())
    motion = sum(weight.numel() for name, weight in load_file(motion_file).items() if not name.endswith(".pe"))
    left_free = webui.module("ui.plan_view")._left_free
    model = webui.module("compat.host_models").HostModel(checkpoint)
    assert 100 * GIB - left_free(model, SETTINGS["model"], 4) == unet + 4 * motion
    assert 100 * GIB - left_free(model, "none of these", 4) == unet


def test_the_page_is_well_formed_whatever_stands_in_it(plan):
    view = plan.view_plan(SETTINGS, {**PAGE, "prompt": "0: <script>&\"'\n9: ]]>", "negative_prompt": "</p>"})
    page = f"<div>{view.summary}{view.windows}{view.prompts}</div>"
    ET.fromstring(page)
    assert "]]&gt;" in page
    assert not re.search("<script", page)


def test_the_page_learns_which_fields_have_no_effect(plan):
    assert "one window" in marks_of(plan, frames=8)["idle"]["overlap"]
    assert "overlap" not in marks_of(plan, frames=40)["idle"]
    assert marks_of(plan, frames=8)["idle"].keys() <= EFFECTS.keys()


def test_the_page_learns_which_settings_in_folds_were_changed(plan):
    assert marks_of(plan)["changed"] == []
    assert marks_of(plan, overlap=4, scale="1.1", preview=True)["changed"] == ["overlap", "scale", "preview"]
    assert marks_of(plan, frames=24, fps=12, formats=["MP4"])["changed"] == []  # in view anyway
    assert marks_of(plan, closed_loop="A", reverse=False)["changed"] == []  # "Loop" shows it
    assert marks_of(plan, closed_loop="N", reverse=True)["changed"] == []
    assert marks_of(plan, closed_loop="A", reverse=True)["changed"] == ["closed_loop", "reverse"]
    assert marks_of(plan, overlap=4, frames=-1)["changed"] == ["overlap"]  # refused values do not hide it


def test_a_single_numbered_line_is_pointed_out(plan):
    def told(prompt):
        return plan.ONE_PROMPT in html.unescape(plan.view_plan(SETTINGS, {**PAGE, "prompt": prompt}).summary)

    assert told("a cat\n24: a dog")
    assert not told("0: a cat\n24: a dog")
    assert not told("a cat")


@pytest.mark.parametrize("enabled", [True, False])
def test_the_page_gets_its_serial_back(plan, enabled):
    """An answer that comes late must not be taken for the latest one."""
    for frames in (16, -1):
        view = plan.view_plan({**SETTINGS, "enable": enabled, "frames": frames}, {**PAGE, "serial": 7})
        assert json.loads(html.unescape(re.search("data-marks='(.*?)'", view.summary)[1]))["serial"] == 7
        assert ("<p" in view.summary) == enabled
