"""The evaluation says what it should about clips whose motion is known."""

import pytest
import torch
from support.motion_files import write_motion_file

from motion_module import load_motion_module
from motion_module.schedules import SCALED_LINEAR
from tools.pocket.evaluate import (
    animated,
    frozen,
    independent,
    largest_difference,
    on_schedule,
    score,
    truth,
    went,
    without_output,
    without_positions,
)
from tools.pocket.export import load_pipeline
from tools.pocket.measure import track
from tools.pocket.pan import SHIFT, panned
from tools.pocket.world import HEADINGS

SOME = [("red", "disc", heading) for heading in HEADINGS if heading != "still"]


def test_the_world_itself_is_right_frozen_it_goes_nowhere_and_backwards_the_other_way():
    found = score("truth", truth, concepts=SOME)
    assert (found.clips, found.heading, found.subject, found.style, found.monotone) == (4, 1.0, 1.0, 1.0, 1.0)
    assert 26 <= found.displacement <= 32.5
    found = score("frozen", frozen(truth), concepts=SOME)
    assert (found.heading, found.displacement, found.change) == (0.0, 0.0, 0.0)
    found = score("backwards", lambda concept, seed: truth(concept, seed).flip(0), concepts=SOME)
    assert (found.heading, found.monotone) == (0.0, 0.0)
    assert found.displacement < -25


def test_a_pan_moves_what_stands_still():
    _, frames = panned(0, 0)
    path = track(frames, "right")
    assert went(path) == "right"
    assert path.displacement == pytest.approx(SHIFT, abs=1)


def test_ablations_leave_the_module_as_it_was(tmp_path):
    motion = load_motion_module(write_motion_file(tmp_path))
    before = {name: table.clone() for name, table in motion.named_buffers()}
    with without_positions(motion) as edited:
        assert not any(bool(table.any()) for table in edited.buffers())
    assert all(torch.equal(table, before[name]) for name, table in motion.named_buffers())
    other = on_schedule(motion, SCALED_LINEAR)
    assert (other.schedule, motion.schedule.name) == (SCALED_LINEAR, "linear")


def test_a_module_with_zero_output_is_the_plain_batch_bit_for_bit(built, monkeypatch):
    """In the pipeline, with guidance: the same pictures as without a module on the same noise levels."""
    monkeypatch.setattr("tools.pocket.evaluate.STEPS", 4)
    pipeline = load_pipeline(built)
    motion = load_motion_module(built / "motion.safetensors")
    plain = independent(pipeline, frames=3, schedule=motion.schedule)
    assert largest_difference(animated(pipeline, motion, frames=3), plain, SOME[:1]) > 0
    with without_output(motion) as edited:
        assert largest_difference(animated(pipeline, edited, frames=3), plain, SOME[:1]) == 0
    assert largest_difference(animated(pipeline, motion, frames=3), plain, SOME[:1]) > 0
