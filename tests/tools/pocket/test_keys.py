"""The pocket model's SparseCtrl encoder: what its gate measures, and that the shipped one carries an image."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch
from PIL import Image

from lib_animatediff.builtin_model import POCKET
from motion_module.sparse_ctrl.load import load_sparse_ctrl
from motion_module.sparse_ctrl.network import RGB
from tools.pocket import keys
from tools.pocket.evaluate import MOVING, to_tensor
from tools.pocket.measure import track
from tools.pocket.recipe import SparseRecipe
from tools.pocket.world import FRAMES, SIZE, clip, path, scene


def outcome_of(frames, number=0, given=keys.ENDS):
    shown = keys.key_scene(number)
    return keys.outcome(track(frames, shown.heading), shown, given)


def test_the_world_itself_meets_its_images_and_moves_on_without_a_jump():
    found = outcome_of(clip(keys.key_scene(0)))
    assert found.is_met
    assert found.moves(28.0)
    assert found.is_monotone
    assert found.is_smooth


def test_each_figure_tells_what_is_wrong():
    frames = clip(keys.key_scene(0))
    elsewhere = outcome_of(frames.roll(4, 2))  # four pixels lower
    assert not elsewhere.is_met
    assert elsewhere.is_smooth
    still = outcome_of(frames[:1].expand(FRAMES, -1, -1, -1), given=keys.FIRST)
    assert still.is_met
    assert not still.moves(28.0)
    back = outcome_of(torch.cat([frames[:8], frames[6:7], frames[9:]]))
    assert back.is_met
    assert not back.is_monotone
    jump = outcome_of(torch.cat([frames[:1], frames[6:]])[[0, *range(1, 11), *[10] * 5]])
    assert not jump.is_smooth
    gone = outcome_of(torch.cat([frames[:15], torch.full_like(frames[:1], 0.9)]))
    assert gone.away[1] == SIZE
    assert not gone.moves(28.0)


def test_images_are_foreign_and_of_every_concept_that_moves(tmp_path):
    scenes = [keys.key_scene(number) for number in range(keys.CLIPS)]
    assert {shown.concept for shown in scenes} == set(MOVING)
    images = keys.write_images(scenes[0], keys.ENDS, tmp_path)
    assert list(images) == [0, FRAMES - 1]
    for frame, file in images.items():
        wanted = clip(scenes[0])[frame]
        assert (to_tensor(Image.open(file)) - wanted).abs().max() <= 0.5 / 255 + 1e-6
    trained = {path(scene(0, number))[0] for number in range(SparseRecipe().clips)}
    assert trained.isdisjoint(path(shown)[0] for shown in scenes)


def test_the_tables_count_clips_and_what_was_measured_is_kept(tmp_path):
    good = keys.Outcome((1.0,), 25.0, 0.0, 2.0)
    bad = keys.Outcome((keys.MOST_AWAY + 0.1,), 25.0, 0.0, 2.0)
    slow = keys.Outcome((1.0,), 17.0, 0.0, 9.0)
    wide = keys.Outcome((1.0, 2.0), 25.0, 0.6, 9.0)
    kept = {
        "without an image, (0,)": [good, good, good],
        "SparseCtrl, (0,)": [good, bad, slow],
        "SparseCtrl, (0, 15)": [keys.Outcome((1.0, 2.0), 25.0, 0.5, 9.0), wide, good],
    }
    figures = tmp_path / "keys.json"
    figures.write_text(json.dumps({row: [asdict(each) for each in found] for row, found in kept.items()}))
    methods = {"without an image": (None, (keys.FIRST,)), "SparseCtrl": (None, (keys.FIRST, keys.ENDS))}
    lines = list(keys.measure_keys(methods, figures, clips=3))
    assert "| SparseCtrl | 2 | 2 | 1 | 1 | 22.3 |" in lines
    assert "| SparseCtrl | 3 | 2 | 2 | 1 |" in lines
    keys.write_page(lines, tmp_path / "page.md", tmp_path / "images" / "keys.gif")
    page = (tmp_path / "page.md").read_text()
    assert "| SparseCtrl | 3 | 2 | 2 | 1 |" in page
    assert "](images/keys.gif)" in page


@pytest.mark.matrix
def test_the_shipped_one_starts_at_a_foreign_image_and_goes_to_another():
    models = keys.Models.load(POCKET.folder)
    assert load_sparse_ctrl(models.encoder).kind == RGB
    assert models.encoder.stat().st_size <= 6e6
    for frames in (keys.FIRST, keys.ENDS):
        found = outcome_of(keys.made(models.sparse, 5, frames), 5, frames)
        assert found.is_met
        assert found.moves(26.6)
