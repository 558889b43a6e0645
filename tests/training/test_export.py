"""What is written is official: names, tables, readable by the loader and by other tools."""

from __future__ import annotations

import pytest
import torch
from support.motion_files import random_motion_state
from training import parts

from lib_animatediff.training.export import read_recipe, write
from lib_animatediff.training.settings import NEW_KINDS
from lib_animatediff.training.trainables import target_of
from motion_module import load_motion_module


@pytest.mark.parametrize("kind", NEW_KINDS)
def test_a_written_module_has_official_names_and_is_what_was_trained(tmp_path, kind):
    path = tmp_path / "mm.safetensors"
    with target_of(parts.settings(tmp_path, kind=kind), parts.small_unet()) as target:
        write(path, target, {})
        trained = {name: weight.detach().clone() for name, weight in target.weights.items()}
    official = random_motion_state(kind, parts.WIDTHS)
    written = parts.load_file(path)
    assert {name: t.shape for name, t in written.items()} == {name: t.shape for name, t in official.items()}
    tables = [name for name in official if name.endswith("pos_encoder.pe")]
    assert all(torch.allclose(written[name], official[name], atol=1e-6) for name in tables)

    loaded = load_motion_module(path)
    assert (loaded.kind, loaded.trained_length) == (kind, 32)
    assert parts.equal(dict(loaded.named_parameters()), trained)


def test_longer_clips_make_a_longer_table(tmp_path):
    with target_of(parts.settings(tmp_path, frames=40), parts.small_unet()) as target:
        write(tmp_path / "mm.safetensors", target, {})
    assert load_motion_module(tmp_path / "mm.safetensors").trained_length == 40


def test_half_precision_is_half_the_size(tmp_path):
    whole, half = (parts.trained(tmp_path / str(half), steps=1, half=half) for half in (False, True))
    assert {t.dtype for t in half.values()} == {torch.float16}
    assert parts.equal({name: t.half() for name, t in whole.items()}, half)


def test_the_average_is_what_is_written(tmp_path):
    """A young average forgets faster: (1 + step) / (10 + step), up to the decay asked for."""
    with target_of(parts.settings(tmp_path), parts.tiny_unet()) as target:
        expected = {name: weight.detach().clone() for name, weight in target.weights.items()}
    for step, decay in enumerate((1 / 10, 2 / 11, 0.2)):
        after = parts.trained(tmp_path / str(step), steps=step + 1, lr=1e-2)
        expected = {name: decay * value + (1 - decay) * after[name] for name, value in expected.items()}
    written = parts.trained(tmp_path / "average", steps=3, lr=1e-2, ema=0.2)
    assert parts.largest_difference({name: written[name] for name in expected}, expected) < 1e-6


def test_a_result_carries_its_recipe_and_no_path_of_a_machine(tmp_path):
    parts.trained(tmp_path / "deep" / "out", steps=2, seed=7)
    recipe = read_recipe(tmp_path / "deep" / "out" / "motion-module.safetensors")
    assert (recipe["steps_done"], recipe["settings"]["seed"], recipe["kind"]) == (2, 7, "v3")
    assert recipe["clips"] == {"trained_on": 4, "held_out": 0, "broken": []}
    assert "/" not in str(recipe)
    assert recipe["settings"]["output"] == "out"
