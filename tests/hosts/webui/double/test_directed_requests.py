"""A request that is directed, from hook to hook: nothing goes wrong in silence, nothing is kept."""

from __future__ import annotations

import gc
import weakref

import pytest
from support.webui_double.double import CLIP, shared

FRAMES = CLIP["frames"]


def failing(words):
    """Unlike a mock it keeps no arguments."""

    def fail(*_args, **_kwargs):
        raise RuntimeError(words)

    return fail


@pytest.mark.parametrize(
    ("module", "name", "overtaking", "words"),
    [
        ("clip.prompts", "ClipPrompts.blend", None, "no more conditions"),
        ("hooks.denoiser", "share_noise", failing("second"), "second"),
    ],
)
def test_a_failure_while_sampling_is_raised_and_keeps_nothing(webui, monkeypatch, module, name, overtaking, words):
    """Also where another failure overtakes the first."""
    owner, _, attribute = name.rpartition(".")
    place = webui.module(module)
    monkeypatch.setattr(getattr(place, owner) if owner else place, attribute, failing("no more conditions"))
    shared.during_sampling = overtaking
    p = webui.request(CLIP, enable_hr=True)
    kept = weakref.ref(p)
    with pytest.raises(RuntimeError, match=words):
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
