"""Fewer rows and fewer layers: which rows reach the UNet of a real WebUI, and what becomes of the images."""

from __future__ import annotations

import io

import numpy
import pytest
from support.webui_real.clips import FRAMES, apart, clip_of, clip_payload
from support.webui_real.studio import HIRES

STEPS = 8
REQUEST = {"steps": STEPS, "sampler_name": "Euler", "prompt": "a red disc", "seed": 7}
NOTED = {"Trouble": {"args": [{"conditions": True}]}}


def rendered(studio, clip, **payload):
    """A request's answer, and the rows of each of its UNet calls."""
    answer = studio.txt2img(**clip_payload(clip, **{**REQUEST, **payload}, alwayson_scripts=NOTED))
    arrays = numpy.load(io.BytesIO(studio.api("GET", "/trouble/conditions").content))
    return answer, [len(arrays[f"arr_{number}"]) for number in range(len(arrays.files))]


def text(answer):
    return answer["info"] if isinstance(answer["info"], str) else str(answer["info"])


@pytest.mark.shows("CFG start and end: outside them only the rows of the prompt reach the UNet")
def test_outside_the_interval_of_cfg_only_the_rows_of_the_prompt_are_computed(studio):
    answer, rows = rendered(studio, {"guidance_end": 0.5})
    assert rows == [2 * FRAMES] * 4 + [FRAMES] * 4
    assert "Skip Early CFG" not in text(answer)
    assert rendered(studio, {})[1] == [2 * FRAMES] * STEPS


@pytest.mark.shows("CFG start and end: hires fix")
def test_each_pass_has_an_interval(studio):
    _, rows = rendered(studio, {"guidance_start": 0.5}, **HIRES)
    second = rows[STEPS:]
    assert rows[:STEPS] == [FRAMES] * 4 + [2 * FRAMES] * 4
    assert set(second) == {FRAMES, 2 * FRAMES}
    assert second == sorted(second)


@pytest.mark.shows("CFG 1: the negative prompt is not computed, and the clip is the same")
def test_at_cfg_1_the_negative_prompt_is_not_computed(studio):
    answer, rows = rendered(studio, {}, cfg_scale=1)
    assert rows == [FRAMES] * STEPS
    assert "Skip Early CFG" not in text(answer)
    nearly, all_rows = rendered(studio, {}, cfg_scale=1.00001)
    assert all_rows == [2 * FRAMES] * STEPS
    other, _ = rendered(studio, {}, cfg_scale=1, seed=8)
    clip, same, different = (clip_of(each).frames for each in (answer, nearly, other))
    assert apart(clip, same) < 0.1 * apart(clip, different)  # dithering differs where a colour does


@pytest.mark.shows("Feature reuse: the clip stays near, and the next image is what it was")
def test_features_are_reused_and_nothing_stays_behind(studio):
    before = studio.txt2img(**REQUEST)["images"]
    plain, reused = (clip_of(rendered(studio, {"reuse": reuse})[0]).frames for reuse in (1, 2))
    other = clip_of(rendered(studio, {}, seed=8)[0]).frames
    assert 0 < apart(plain, reused) < 0.5 * apart(plain, other)
    assert studio.txt2img(**REQUEST)["images"] == before
