"""`--motion A --motion B`: several motion modules on the command line, and their recipes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.pocket_clips import clip_of

from lib_animatediff import MotionScale
from lib_animatediff import builtin_model as pocket
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.jobs import recipe as request
from lib_animatediff.jobs.recipe import FurtherMotion
from lib_animatediff.video import read_recipe
from motion_module import load_motion_module

A = pocket.pocket_folder() / pocket.MOTION


@pytest.fixture(scope="module")
def b(tmp_path_factory):
    """The built-in motion module with the rows of its matrices in another order."""
    generator = torch.Generator().manual_seed(1)
    mixed = {
        name: weight if name.endswith(".pe") else weight[torch.randperm(len(weight), generator=generator)].contiguous()
        for name, weight in load_file(A).items()
    }
    path = tmp_path_factory.mktemp("b") / "other.safetensors"
    save_file(mixed, path)
    return path


def test_a_second_module_without_effect_leaves_every_bit(written, b):
    alone = written("--motion", A)
    assert torch.equal(written("--motion", A, "--motion", f"{b}:0"), alone)
    assert torch.equal(written("--motion", A, "--motion", f"{b}:effect=0,scale=1.2"), alone)
    assert not torch.equal(written("--motion", A, "--motion", b), alone)
    assert torch.equal(written("--motion", A, "--motion", b, "--preview"), written("--motion", A, "--poster"))


def test_a_further_module_has_an_effect_and_a_scale_of_its_own(written, pipeline, motion, b):
    own = MotionComponent(load_motion_module(b), MotionScale(scale=(1.2,), effect=(0.5,)))
    found = written("--motion", A, "--motion", f"{b}:effect=0.5,scale=1.2")
    assert torch.equal(found, clip_of(pipeline, [motion, own]))
    assert not torch.equal(found, written("--motion", A, "--motion", f"{b}:effect=0.5"))


def test_a_recipe_holds_them_and_makes_the_clip_again(written, run, tmp_path, b):
    written("--motion", A, "--motion", f"{b}:effect=0.5,scale=1.2")
    path = tmp_path / "clip.png"
    data = json.loads(json.dumps(read_recipe(path).data))
    (further,) = data["files"]["further"]
    assert further == {"name": b.name, "sha256": request.file_hash(b), "effect": 0.5, "scale": 1.2}
    where = {file.name: file for file in (b, *pocket.pocket_folder().iterdir())}
    again = request.request_of(data, lambda name, _digest: where[name])
    assert again.further == (FurtherMotion(b, 0.5, 1.2),)
    done = run("reproduce", path, "--models", b.parent)
    assert done.out == "Reproduced: frame 0 is identical.\n"
    written("--motion", A)
    assert "further" not in read_recipe(path).data["files"]
