"""Clips longer than the context, every kind of Stable Diffusion 1.5, in the real WebUI."""

from __future__ import annotations

from itertools import pairwise

import pytest
from support.webui_real.clips import animate, apart, clip_of
from support.webui_real.studio import left_as_it_was, refused, trouble

FRAMES = 40
WINDOWS = {"frames": FRAMES, "context_length": 16, "overlap": 4}
FIRST_STEP = 3  # windows
KINDS = ("v1", "v2", "v3")


@pytest.fixture(scope="module")
def long_studio(start_studio):
    return start_studio("long", *KINDS, "sdxl")


@pytest.mark.parametrize("kind", KINDS)
def test_forty_frames_in_windows_of_sixteen(long_studio, kind):
    with left_as_it_was(long_studio):
        gif = clip_of(animate(long_studio, {**WINDOWS, "model": f"mm_small_{kind}"}))
    assert gif.frames.shape == (FRAMES, 64, 64, 3)
    assert min(apart(a, b) for a, b in pairwise(gif.frames)) > 0


@pytest.mark.parametrize("other", [{"context_kind": "static"}, {"fusion": "flat"}, {"closed_loop": "A"}, {"stride": 2}])
def test_every_window_setting_changes_the_clip(long_studio, other):
    plain, changed = (
        clip_of(animate(long_studio, {**WINDOWS, "model": "mm_small_v3", **more})) for more in ({}, other)
    )
    assert apart(plain.frames, changed.frames) > 0
    ((name, value),) = other.items()
    assert f"{name}: {value}" in changed.comment


def test_reverse_plays_back_to_the_beginning(long_studio):
    frames = clip_of(animate(long_studio, {"frames": 6, "model": "mm_small_v3", "reverse": True})).frames
    assert len(frames) == 6 + 4
    assert (frames[6:] == frames[4:0:-1]).all()
    assert min(apart(a, b) for a, b in pairwise(frames)) > 0


@pytest.mark.shows("API: an interrupted request returns what there is")
@pytest.mark.parametrize(("clip", "call"), [(WINDOWS, FIRST_STEP + 2), ({"frames": 8}, 1)])
def test_an_interrupt_is_heeded_between_windows(long_studio, clip, call):
    with left_as_it_was(long_studio):
        stop = trouble(interrupt_at={"layer": "model.diffusion_model.middle_block.0", "call": call})
        answer = animate(long_studio, {**clip, "model": "mm_small_v3"}, **stop)
        assert long_studio.api("GET", "/trouble/calls").json() == call
        assert len(clip_of(answer).frames) == clip["frames"]


def test_windows_longer_than_the_module_knows_are_refused(long_studio):
    clip = {"frames": 40, "context_length": 32, "model": "mm_small_v1"}
    assert "Lower the context length to 24 or less" in refused(long_studio, clip)


@pytest.mark.shows("Pains that people report: pain 7: memory grows with the clip and is not given back")
def test_memory_is_given_back(studio):
    """A clip of 64 frames is painted 16 at a time, and afterwards no tensor of it is left in the process."""
    animate(studio, {"frames": 64}, steps=1)
    before = studio.api("GET", "/trouble/live-bytes").json()
    for _ in range(2):
        animate(studio, {"frames": 64}, steps=2)
    studio.txt2img()
    kept = studio.api("GET", "/trouble/live-bytes").json() - before
    one_latent = 4 * 8 * 8 * 4
    assert kept < 16 * one_latent
