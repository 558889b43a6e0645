"""Which requests become clips, and how requests inside or after one another keep apart."""

from __future__ import annotations

import copy
import gc
import weakref
from types import SimpleNamespace

import pytest
from PIL import Image
from support.unchanged import own_values
from support.webui_double import double
from support.webui_double.double import CLIP, SIDE, Script, shared
from support.webui_double.functions import digest

START = {"init_images": [Image.new("RGB", (SIDE, SIDE))]}
BOTH_TABS = pytest.mark.parametrize("fields", [{}, {"tab": "img2img", **START}], ids=["txt2img", "img2img"])
OFF = [
    (),
    (False, "mm.safetensors", 2),
    (False, "mm.safetensors", 9000, "no number"),
    ({"enable": False, "frames": 2},),
    ({"enabled": False, "frames": 2},),
    ({"enable": False, "no such name": 1},),
    ({"enabled": False, "no such name": 1},),
]


def rows():
    return [sampling.rows for sampling in shared.samplings]


@pytest.mark.parametrize("arguments", OFF, ids=str)
def test_switched_off_it_leaves_p_alone(webui, arguments):
    p = webui.request(*arguments)
    before, told = own_values(p), []
    shared.during_sampling = lambda p: told.append(own_values(p))
    processed = double.process_images(p)
    assert told == [before]
    assert p.extra_generation_params == {}
    assert [type(image) for image in processed.images] == [Image.Image]
    assert shared.samplings[0].hooks == 0


@pytest.mark.parametrize(
    ("arguments", "frames"),
    [
        ((True, "mm.safetensors", 3, 8, 0), 3),
        (({"frames": 3},), 3),
        (({"enable": True, "frames": 3},), 3),
        (({"enabled": True, "frames": 3},), 3),
        (({"model": "mm.safetensors"}, {"video_length": "3"}), 3),  # several objects count together
        (({"video_length": 3}, "mm.safetensors", 7), 3),  # an alias, too, goes before the panel's value
        (({"video_length": 0, "batch_size": 4},), 4),  # the context length
    ],
    ids=str,
)
def test_the_panels_values_and_a_dictionary_that_does_not_say_no_make_a_clip(webui, arguments, frames):
    webui.paint(*arguments)
    assert rows() == [frames]


def test_what_a_dictionary_does_not_name_is_the_panels(webui):
    p = webui.request({"enable": True}, "mm.safetensors", 3, 12)
    double.process_images(p)
    assert rows() == [3]
    assert "fps: 12" in p.extra_generation_params["AnimateDiff"]


def test_the_gallerys_upscale_button_makes_a_plain_picture(webui):
    p = webui.request(True, "mm.safetensors", 2, None)
    p.txt2img_upscale = True
    p.firstpass_image = Image.new("P", (8, 8))  # as the WebUI opens a GIF; its second pass wants three channels
    before = own_values(p)
    double.process_images(p)
    assert rows() == [1]
    assert own_values(p) == before
    assert p.extra_generation_params == {}
    assert p.firstpass_image.mode == "RGB"


def test_the_infotext_says_what_was_asked_for_and_which_file_moved_it(webui, monkeypatch):
    p = webui.request({"video_length": 2, "model": "mm"})
    double.process_images(p)
    hashed = digest((webui.models_folder / "mm.safetensors").resolve(), 0)[:8]
    assert p.extra_generation_params == {
        "AnimateDiff": "enable: True, model: mm.safetensors, frames: 2, fps: 8, loop_count: 0, context_length: 16, "
        "overlap: -1, stride: 1, context_kind: uniform, fusion: pyramid, closed_loop: N, reverse: False, "
        f"formats: GIF, mm_hash: {hashed}"
    }
    monkeypatch.setattr(webui.module("hashes"), "sha256", lambda filename, title: None)  # without hashing
    assert "mm_hash" not in webui.paint(CLIP).infotexts[0]


def test_modules_of_one_name_in_two_folders_have_hashes_of_their_own(webui):
    for folder in ("a", "b"):
        (webui.models_folder / folder).mkdir()
        (webui.models_folder / folder / "mm.ckpt").write_text(folder)
    told = []
    for folder in ("b", "a"):  # the later one of the WebUI's cache is the older file
        p = webui.request({**CLIP, "model": f"{folder}/mm.ckpt"})
        with pytest.raises(Exception, match=r"mm\.ckpt"):
            double.process_images(p)
        told.append(p.extra_generation_params["AnimateDiff"].rpartition("mm_hash: ")[2])
    assert told[0] != told[1]


@pytest.fixture
def detailer(webui):
    """A script that paints with both tabs' scripts in one of its hooks, AnimateDiff switched on, as detailers do."""
    painted = []

    def paint(p):
        if hasattr(p, "is_nested"):
            return
        for tab, fields in (("txt2img", {}), ("img2img", START)):
            nested = webui.p({**CLIP, "frames": 3}, tab=tab, **fields)
            nested.is_nested = True
            before = own_values(nested)
            images = double.process_images(nested).images
            painted.append((len(images), nested.extra_generation_params, own_values(nested) == before))

    def load(hook):
        webui.load_script(type("Detailer", (Script,), {hook: lambda self, p, *_: paint(p)}))

    return SimpleNamespace(load=load, paint=paint, painted=painted)


@BOTH_TABS
def test_a_request_nested_in_postprocess_is_a_plain_picture(webui, detailer, fields):
    """The detailer's script comes before ours, so that ours has not finished."""
    detailer.load("postprocess")
    for runner in webui.tabs.values():
        runner.alwayson_scripts.reverse()
    processed = webui.paint(CLIP, **fields)
    assert detailer.painted == [(1, {}, True)] * 2
    assert [(sampling.rows, sampling.hooks) for sampling in shared.samplings] == [(2, 20), (1, 0), (1, 0)]
    assert processed.images[0].already_saved_as.endswith(".gif")


@BOTH_TABS
def test_a_request_nested_in_sampling_is_left_alone(webui, detailer, fields):
    """It runs on the animated UNet, whose rows are no whole clips: that is the other script's failure, told as such."""
    shared.during_sampling = detailer.paint
    with pytest.raises(Exception, match="not whole clips") as refusal:
        webui.paint({**CLIP, "frames": 3}, **fields)
    assert refusal.value.status_code == 422
    assert [sampling.hooks for sampling in shared.samplings] == [20, 20]


@BOTH_TABS
def test_a_request_nested_in_a_refused_one_is_a_plain_picture(webui, detailer, fields):
    """And the outer one is refused all the same."""
    detailer.load("process")
    with pytest.raises(Exception, match="frames must be between"):
        webui.paint({**CLIP, "frames": -1}, **fields)
    assert detailer.painted == [(1, {}, True)] * 2
    assert [(sampling.rows, sampling.hooks) for sampling in shared.samplings] == [(1, 0)] * 2


def test_a_nested_request_neither_ends_nor_changes_the_outer_one(webui):
    p = webui.request(CLIP)
    script, nested = webui.our_script(), webui.p({**CLIP, "frames": 5})
    p.scripts.call("before_process", p)
    session, before = script.session, vars(p).copy()
    for hook in ("before_process", "process_batch"):
        nested.scripts.call(hook, nested)
    nested.scripts.call("postprocess", nested, None)
    assert script.session is session
    assert session.owns(p)
    assert vars(p) == before


def break_off(webui):
    """Something outside sampling fails, so that no hook of ours hears of it."""
    p = webui.request(CLIP)
    p.init = lambda *_: 1 / 0
    with pytest.raises(ZeroDivisionError):
        double.process_images(p)
    return p


@BOTH_TABS
def test_a_request_after_one_that_broke_off_becomes_a_clip(webui, fields):
    p = break_off(webui)
    webui.paint(CLIP, **fields)
    assert rows() == [2]
    assert p is not None


def test_a_refused_request_that_was_never_sampled_is_not_kept(webui):
    """Interrupted before its first picture, it has nobody to tell the reason."""
    p = webui.request({**CLIP, "frames": -1})
    p.init = lambda *_: setattr(shared.state, "interrupted", True)
    double.process_images(p)
    kept = weakref.ref(p)
    del p
    gc.collect()
    assert kept() is None
    assert webui.our_script().session is None


def test_a_request_that_broke_off_does_not_change_the_next_plain_one(webui):
    picture = webui.picture()
    p = break_off(webui)
    assert webui.picture() == picture
    assert p.batch_size == 1


def test_a_part_of_a_request_that_broke_off_does_not_hold_up_the_next_part(webui):
    """Scripts that paint many p in one request may go on after one of them has failed."""
    break_off(webui)
    gc.collect()
    double.process_images(webui.p(CLIP))
    assert rows() == [2]


def test_copies_of_one_p_in_one_request_each_become_a_clip(webui):
    """The X/Y/Z plot paints so."""
    p = webui.request(CLIP)
    for seed in (1, 5):
        one = copy.copy(p)
        one.seed = seed
        double.process_images(one)
    assert rows() == [2, 2]


def test_two_tabs_take_turns(webui):
    for tab, fields in (("txt2img", {}), ("img2img", START), ("txt2img", {})):
        webui.paint(CLIP, tab=tab, **fields)
    assert rows() == [2, 2, 2]
