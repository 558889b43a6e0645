"""`--speed fast`: what the command line chooses for distilled files, what it leaves as given, and what it says."""

from __future__ import annotations

import shutil

import pytest

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.cli import animate as cli
from lib_animatediff.jobs.recipe import recipe_of, request_of

FOLDER = POCKET.folder


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The built-in model's files under the names of distilled ones."""
    folder = tmp_path_factory.mktemp("files")
    lightning = shutil.copy(FOLDER / POCKET.motion, folder / "animatediff_lightning_4step.safetensors")
    lora = shutil.copy(FOLDER / "pocket-lilac-lora.safetensors", folder / "lcm-lora-sdv1-5.safetensors")
    plain, style = FOLDER / POCKET.motion, FOLDER / POCKET.style_lora
    return {"lightning": lightning, "lora": lora, "plain": plain, "style": style}


@pytest.fixture
def asked(files, tmp_path):
    """The request of a command line, in which names in braces are those of files."""

    def asked(line):
        requests = []
        words = [word.format(**files) for word in line.split()]
        words = ["--checkpoint", "pocket", *words, "--output", str(tmp_path / "clip.gif")]
        cli.animate.main(words, standalone_mode=False, obj=lambda clip, _: requests.append(clip.request))
        return requests[0]

    return asked


def sampling(request):
    return request.sampler, request.spacing, request.steps, request.cfg


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", ("ddim", None, 25, POCKET.cfg)),
        ("--speed fast", ("lcm", None, 4, 1.0)),
        ("--motion {plain} --speed fast", ("ddim", None, 25, POCKET.cfg)),
        ("--motion {lightning}", ("ddim", None, 25, POCKET.cfg)),
        ("--motion {lightning} --speed fast", ("euler", "trailing", 4, 1.0)),
        ("--motion {lightning} --speed fast --steps 8", ("euler", "trailing", 8, 1.0)),
        ("--motion {lightning} --speed fast --cfg 3", ("euler", "trailing", 4, 3.0)),
        ("--motion {lightning} --speed fast --sampler ddim", ("ddim", "trailing", 4, 1.0)),
        ("--motion {lightning} --speed fast --sampler dpm++2m", ("dpm++2m", None, 4, 1.0)),
        ("--motion {lightning} --speed fast --spacing leading", ("ddim", "leading", 4, 1.0)),
        ("--lora {lora} --speed fast", ("lcm", None, 8, 1.0)),
        ("--lora {lora}:0.5 --speed fast", ("lcm", None, 8, 1.0)),
        ("--lora {lora}:0 --speed fast", ("lcm", None, 4, 1.0)),
        ("--lora {style} --speed fast", ("lcm", None, 4, 1.0)),
        ("--lora {lora} --motion text2video-zero --speed fast", ("lcm", None, 8, 1.0)),
        ("--sampler lcm --steps 6 --cfg 1", ("lcm", None, 6, 1.0)),
    ],
)
def test_speed_fast_chooses_what_is_not_given(asked, line, expected):
    assert sampling(asked(line)) == expected


def test_a_recipe_has_what_was_chosen(asked, files):
    request = asked("--motion {lightning} --speed fast")
    recipe = recipe_of(request, {})
    assert "Steps: 4, Sampler: Euler, Schedule type: Simple, CFG scale: 1.0" in recipe.infotext
    paths = {path.name: path for path in (request.checkpoint, request.motion)}
    again = request_of(recipe.data, lambda name, _digest: paths[name])
    assert sampling(again) == sampling(request)
    older = {name: value for name, value in recipe.data.items() if name != "spacing"}  # before there was a choice
    assert request_of(older, lambda name, _digest: paths[name]).spacing is None


def test_the_builtin_model_has_a_module_for_few_steps_which_a_distilled_lora_does_not_need(asked):
    assert asked("--speed fast").motion.name == POCKET.fast_motion
    assert asked("--lora {style} --speed fast").motion.name == POCKET.fast_motion
    assert asked("--lora {lora} --speed fast").motion.name == POCKET.motion
    assert asked("").motion.name == POCKET.motion


def test_that_nothing_is_distilled_is_said_and_the_clip_is_rendered(command, tmp_path):
    clip = tmp_path / "clip.gif"
    words = ("--checkpoint", "pocket", "--motion", FOLDER / POCKET.motion, "--speed", "fast")
    ended = command("animate", *words, "--frames", 2, "--steps", 1, "--output", clip)
    assert ended.code == 0
    assert clip.exists()
    assert "speed fast changes nothing, since pocket-motion.safetensors is not known to be distilled" in ended.err


def test_the_choice_and_what_does_not_fit_are_said(command, files, tmp_path):
    words = ("--motion", files["lightning"], "--speed", "fast", "--steps", 1, "--negative-prompt", "bad")
    ended = command("animate", "--checkpoint", "pocket", *words, "--frames", 2, "--output", tmp_path / "clip.gif")
    name = "animatediff_lightning_4step.safetensors"
    said = [line for line in ended.err.splitlines() if "Sampling" not in line][1:4]
    assert said == [
        f"speed fast, for {name}: euler with trailing timesteps, 1 step, CFG 1.",
        f"{name} was distilled for 4 steps; you ask for 1 step.",
        "negative_prompt has no effect at CFG 1.",
    ]
