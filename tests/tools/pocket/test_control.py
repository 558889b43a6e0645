"""The pocket model's ControlNet: its hints, its lessons, and what its gate measures."""

from __future__ import annotations

import math

import pytest
import torch

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.control.files import CONTROLNET, read_control_file
from motion_module import load_motion_module
from tools.pocket import control, following
from tools.pocket.report import pipeline_of
from tools.pocket.trainer import lessons
from tools.pocket.world import FRAMES, MARGIN_AHEAD, SIZE, caption, path, scene


def test_marks_are_where_the_sprite_is():
    places = [(20.0, 41.5), (33.25, 12.0)]
    hints = following.marks(places)
    assert hints.shape == (2, 3, SIZE, SIZE)
    assert float(hints.min()) == 0
    assert float(hints.max()) == 1
    pixels = torch.arange(SIZE) + 0.5
    for hint, (x, y) in zip(hints, places, strict=True):
        weight = hint[0] / hint[0].sum()
        assert float((weight.sum(0) * pixels).sum()) == pytest.approx(x, abs=0.1)
        assert float((weight.sum(1) * pixels).sum()) == pytest.approx(y, abs=0.1)


def test_lessons_are_clips_of_the_world_with_their_marks():
    vae = pipeline_of(POCKET.folder / POCKET.checkpoint).vae
    ((latents, said, hints),) = control.marked(lessons(vae, 1, seed=4))
    shown = scene(4, 0)
    assert latents.shape == (FRAMES, 4, SIZE // 8, SIZE // 8)
    assert said == caption(shown.concept)
    assert torch.equal(hints, following.marks(path(shown)))


def test_paths_stay_in_the_picture_and_differ():
    lines = [following.drawn(number) for number in range(following.PATHS)]
    for line in lines:
        assert len(line.places) == FRAMES
        assert all(MARGIN_AHEAD <= value <= SIZE - MARGIN_AHEAD for place in line.places for value in place)
    assert len({line.places[0] for line in lines}) == len(lines)
    assert {line.concept[2] for line in lines} >= {"left", "right", "up", "down"}


def test_a_frame_without_a_sprite_counts_as_far_away():
    assert following.distances(lambda _line, _seed: (torch.empty(0), [0.0, math.inf]), 1) == [SIZE / 2]
    assert following.distances(lambda _line, _seed: (torch.empty(0), [1.0, 3.0]), 1) == [2.0]


def test_the_shipped_one_leads_the_sprite_along_a_path(monkeypatch):
    monkeypatch.setattr(following, "STEPS", 10)  # of 25
    pipeline, motion = pipeline_of(POCKET.folder / POCKET.checkpoint), load_motion_module(POCKET.folder / POCKET.motion)
    network = POCKET.folder / POCKET.control
    assert read_control_file(network).kind == CONTROLNET
    line = following.drawn(2)
    led = following.follow(pipeline, motion, network, line, 7)[1]
    assert sum(led) / FRAMES <= control.NEAR  # a mean distance of 14 pixels without it
