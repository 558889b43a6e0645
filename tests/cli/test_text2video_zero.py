"""`animatediff animate --motion text2video-zero`: clips of the built-in model, and their recipes."""

from __future__ import annotations

import json

import pytest
import torch
from support.pocket_clips import CFG, SIZE, near, pixels

from lib_animatediff import ClipError, Text2VideoZero
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.jobs import recipe as request
from lib_animatediff.request.methods import name_without_file
from lib_animatediff.request.settings import from_infotext
from lib_animatediff.video import read_clip, read_recipe

STILL = "a red disc standing still"
SEED, STEPS, FRAMES = 3, 3, 4


@pytest.fixture
def written(run, tmp_path):
    def written(*words, name="clip.png"):
        common = ("--seed", SEED, "--steps", STEPS, "--frames", FRAMES, "--prompt", STILL, "--output", tmp_path / name)
        done = run("animate", "--motion", "text2video-zero", *common, *words)
        assert done.code == 0, done.err
        return tmp_path / name

    return written


def frames_in(path):
    return pixels([frame.image for frame in read_clip(path)])


def test_the_command_makes_the_clip(written, pipeline):
    path = written("--zero-x", -24, "--zero-y", 3)
    asked = {"prompt": STILL, "seed": SEED, "frames": FRAMES, "size": SIZE, "steps": STEPS, "cfg": CFG}
    wanted = animate(pipeline, Text2VideoZero((-24.0, 3.0)), **asked)
    assert torch.equal(frames_in(path), pixels(wanted))
    assert not near(frames_in(written(name="other.png")), frames_in(path), 5)


def test_a_recipe_says_what_made_it_and_makes_it_again(written, run):
    path = written("--zero-x", -24, "--sampler", "euler-a")
    recipe = read_recipe(path)
    assert recipe.data["files"]["motion"] == {"name": "Text2Video-Zero"}
    assert (recipe.data["settings"]["zero_x"], recipe.data["settings"]["zero_y"]) == (-24.0, 12.0)
    field = recipe.infotext.split("AnimateDiff: ")[1]
    told = from_infotext(json.JSONDecoder().raw_decode(field)[0])
    assert (told["model"], told["zero_x"], told["enable"]) == ("Text2Video-Zero", -24.0, True)
    assert "mm_hash" not in recipe.infotext
    assert "frame 0 is identical" in run("reproduce", path).out


def test_only_its_name_without_a_hash_means_it_in_a_recipe(written, tmp_path):
    data = dict(read_recipe(written()).data)

    def motion_of(**entry):
        files = data["files"] | {"motion": entry}
        return request.request_of(data | {"files": files}, lambda name, _digest: tmp_path / name).motion

    assert name_without_file(str(motion_of(name="text2video-zero"))) == "Text2Video-Zero"
    assert motion_of(name="Text2Video-Zero", sha256="0" * 64, kind=None) == tmp_path / "Text2Video-Zero"
    with pytest.raises(ClipError, match="sha256"):
        motion_of(name="v3.safetensors")
