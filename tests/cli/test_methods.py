"""Several motion modules, and Text2Video-Zero, on the command line, and their recipes."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.pocket_clips import CFG, TINY, clip_of, near, pixels

from lib_animatediff import ClipError, MotionScale, Text2VideoZero
from lib_animatediff.builtin_model import POCKET
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.jobs import recipe as request
from lib_animatediff.jobs.recipe import FurtherMotion
from lib_animatediff.request.methods import name_without_file
from lib_animatediff.request.settings import from_infotext
from lib_animatediff.video import read_recipe
from motion_module import load_motion_module

A = POCKET.folder / POCKET.motion
STILL = "a red disc standing still"
ZERO = ("--motion", "text2video-zero", "--prompt", STILL, "--steps", 3)


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
    assert torch.equal(found, clip_of(pipeline, [motion, own], size=TINY))
    assert not torch.equal(found, written("--motion", A, "--motion", f"{b}:effect=0.5"))


def test_a_recipe_holds_them_and_makes_the_clip_again(written, run, tmp_path, b):
    written("--motion", A, "--motion", f"{b}:effect=0.5,scale=1.2")
    path = tmp_path / "clip.png"
    data = json.loads(json.dumps(read_recipe(path).data))
    (further,) = data["files"]["further"]
    assert further == {"name": b.name, "sha256": request.file_hash(b), "effect": 0.5, "scale": 1.2}
    where = {file.name: file for file in (b, *POCKET.folder.iterdir())}
    again = request.request_of(data, lambda name, _digest: where[name])
    assert again.further == (FurtherMotion(b, 0.5, 1.2),)
    done = run("reproduce", path, "--models", b.parent)
    assert done.out == "Reproduced: frame 0 is identical.\n"
    written("--motion", A)
    assert "further" not in read_recipe(path).data["files"]


def test_text2video_zero_makes_the_clip(written, pipeline):
    found = written(*ZERO, "--zero-x", -24, "--zero-y", 3)
    asked = {"prompt": STILL, "seed": 3, "frames": 4, "size": TINY, "steps": 3, "cfg": CFG}
    assert torch.equal(found, pixels(animate(pipeline, Text2VideoZero((-24.0, 3.0)), **asked)))
    assert not near(written(*ZERO), found, 5)


def test_a_recipe_of_text2video_zero_says_what_made_it_and_makes_it_again(written, run, tmp_path):
    written(*ZERO, "--zero-x", -24, "--sampler", "euler-a")
    path = tmp_path / "clip.png"
    recipe = read_recipe(path)
    assert recipe.data["files"]["motion"] == {"name": "Text2Video-Zero"}
    assert (recipe.data["settings"]["zero_x"], recipe.data["settings"]["zero_y"]) == (-24.0, 12.0)
    field = recipe.infotext.split("AnimateDiff: ")[1]
    told = from_infotext(json.JSONDecoder().raw_decode(field)[0])
    assert (told["model"], told["zero_x"], told["enable"]) == ("Text2Video-Zero", -24.0, True)
    assert "mm_hash" not in recipe.infotext
    assert "frame 0 is identical" in run("reproduce", path).out


def test_only_its_name_without_a_hash_means_it_in_a_recipe(written, tmp_path):
    written(*ZERO)
    data = dict(read_recipe(tmp_path / "clip.png").data)

    def motion_of(**entry):
        files = data["files"] | {"motion": entry}
        return request.request_of(data | {"files": files}, lambda name, _digest: tmp_path / name).motion

    assert name_without_file(str(motion_of(name="text2video-zero"))) == "Text2Video-Zero"
    assert motion_of(name="Text2Video-Zero", sha256="0" * 64, kind=None) == tmp_path / "Text2Video-Zero"
    with pytest.raises(ClipError, match="sha256"):
        motion_of(name="v3.safetensors")
