"""A request that is directed, from hook to hook: nothing goes wrong in silence, nothing is kept."""

from __future__ import annotations

import gc
import weakref

import pytest
from support.webui_double.double import CLIP, shared

FRAMES = CLIP["frames"]


@pytest.mark.parametrize(
    ("module", "place"),
    [
        ("hooks.script", "parse_settings"),
        ("hooks.script", "plan_clip"),
        ("hooks.layout", "check_prompts"),
        ("hooks.layout", "arrange_seeds"),
    ],
)
def test_whatever_a_hook_raises_ends_the_request(webui, monkeypatch, module, place):
    """The WebUI swallows it, and would paint a picture that nobody asked for."""

    def fail(*_args, **_kwargs):
        raise OverflowError("too large")

    monkeypatch.setattr(webui.module(module), place, fail)
    with pytest.raises(OverflowError, match="too large"):
        webui.paint(CLIP)
    monkeypatch.undo()
    assert len(webui.paint(CLIP).images) == 1


def test_a_failure_while_sampling_is_raised_and_keeps_nothing(webui, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("no more conditions")

    monkeypatch.setattr(webui.module("clip.prompts").ClipPrompts, "blend", fail)
    p = webui.request(CLIP, enable_hr=True)
    kept = weakref.ref(p)
    with pytest.raises(RuntimeError, match="no more conditions"):
        webui.double.process_images(p)
    del p
    gc.collect()
    assert kept() is None


def test_a_failure_that_another_one_overtakes_is_not_kept_either(webui, monkeypatch):
    def fail(*_args, **_kwargs):
        raise RuntimeError("first")

    def overtake(_p):
        raise RuntimeError("second")

    monkeypatch.setattr(webui.module("hooks.denoiser"), "share_noise", fail)
    shared.during_sampling = overtake
    p = webui.request(CLIP)
    kept = weakref.ref(p)
    with pytest.raises(RuntimeError, match="second"):
        webui.double.process_images(p)
    del p
    gc.collect()
    assert kept() is None


def test_a_preview_is_one_picture_saved_as_one(webui):
    clip, preview = webui.paint(CLIP), webui.paint({**CLIP, "preview": True}, batch_size=2, n_iter=2)
    assert len(preview.images) == 4 + 1  # a grid, as for pictures
    assert shared.saved[-4:] == [1, 1 + FRAMES, 1 + 2 * FRAMES, 1 + 3 * FRAMES]
    assert len(clip.images) == 1


def test_a_preview_of_a_variation_has_its_clips_subseed(webui):
    p = webui.request({**CLIP, "preview": True}, subseed_strength=0.5, n_iter=2)
    webui.double.process_images(p)
    assert p.all_seeds == [1, 1]
    assert p.all_subseeds == [100, 100 + FRAMES]


def test_a_preview_has_the_first_of_the_seeds_given(webui):
    webui.paint({**CLIP, "preview": True, "frame_seeds": "70, 80"})
    assert shared.saved[-1] == 70


def test_frames_take_the_seeds_given(webui):
    p = webui.request({**CLIP, "frame_seeds": "70, 90"}, n_iter=2)
    webui.double.process_images(p)
    assert p.all_seeds == [70, 90, 70 + FRAMES, 90 + FRAMES]


def test_a_clip_leaves_p_as_it_was(webui):
    p = webui.request({**CLIP, "noise": "constant"}, prompt="head\n0: a\n1: b", negative_prompt="0: x", enable_hr=True)
    before = {name: getattr(p, name) for name in ("prompt", "negative_prompt", "styles", "batch_size", "hr_prompt")}
    webui.double.process_images(p)
    assert {name: getattr(p, name) for name in before} == before
