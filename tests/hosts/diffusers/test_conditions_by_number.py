"""In windows, the pipeline carries one number for each row, and the UNet's own layers see the conditions as before."""

from __future__ import annotations

import numpy as np
import pytest
from support.matrix import in_matrix
from support.pocket_clips import CFG, RED, TINY

from lib_animatediff.hosts.diffusers import motion_module
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings

LONG = {"frames": 5, "context_length": 3, "overlap": 1}
TRAVEL = f"0: {RED}\n3: a blue square"


def made(pipeline, motion, prompt=RED, cfg=CFG, **settings):
    given = parse_settings(LONG | settings)
    clip = animate(
        pipeline, motion, prompt=prompt, negative_prompt="grey", seed=3, settings=given, size=TINY, steps=2, cfg=cfg
    )
    return np.stack([np.asarray(frame) for frame in clip])


@pytest.fixture
def carried(pipeline):
    """Shape of the conditions in each call by the pipeline, and in each call that reaches the UNet's own layers."""
    outside, inside = [], []
    block = pipeline.unet.down_blocks[0]

    def note(seen):
        return lambda _layer, _args, kwargs: seen.append(tuple(kwargs["encoder_hidden_states"].shape))

    with (
        pipeline.unet.register_forward_pre_hook(note(outside), with_kwargs=True),
        block.register_forward_pre_hook(note(inside), with_kwargs=True),
    ):
        yield outside, inside


@pytest.mark.parametrize(
    "more",
    [
        in_matrix({}),  # as the last one
        {"guidance_end": 0.5},
        {"prompt": f"({RED}:1.3)"},
        {"cfg": 1.0},
        {"reverse": True, "noise": "shared"},
    ],
    ids=["plain", "CFG ends", "emphasis", "no CFG", "shared noise"],
)
def test_the_clip_is_the_same_bit_for_bit(pipeline, motion, monkeypatch, carried, more):
    by_number = made(pipeline, motion, **more)
    outside, inside = carried
    assert {shape[1:] for shape in outside} == {(1, 1)}
    assert {shape[1] for shape in inside} == {77}
    monkeypatch.setattr(motion_module, "conditions_by_number", lambda _pipeline, kwargs, _frames: (kwargs, []))
    outside.clear()
    assert np.array_equal(made(pipeline, motion, **more), by_number)
    assert {shape[1] for shape in outside} == {77}


def test_a_travelling_prompt_and_a_clip_of_one_window_have_their_own_conditions(pipeline, motion, carried):
    made(pipeline, motion, prompt=TRAVEL)
    made(pipeline, motion, frames=3)
    outside, _ = carried
    assert {shape[1] for shape in outside} == {77}
