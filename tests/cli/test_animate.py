"""The command line on a whole, small Stable Diffusion made from code: no network, no download."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import pytest
from PIL import Image, ImageSequence
from support.cli import Ended
from support.motion_files import write_motion_file
from support.small_configs import write_config_folder
from support.webui_real import small_models

from lib_animatediff import ContextWindows, MotionFileError, __version__
from lib_animatediff.cli.animate import OTHER_OPTIONS
from lib_animatediff.hosts.diffusers import motion_module
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.jobs import recipe as request
from lib_animatediff.request.methods import ModuleFile
from lib_animatediff.request.plan import Sampling
from lib_animatediff.request.settings import SETTINGS, motion_scale, parse_settings
from lib_animatediff.video import read_recipe
from motion_module import load_motion_module

ROOT = Path(__file__).parents[2]
PROMPT = "a red cat"
FRAMES = 8


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    return SimpleNamespace(
        checkpoint=small_models.write_checkpoint(folder),
        motion=write_motion_file(folder),
        config=write_config_folder(folder / "config"),
    )


def arguments(files, **changes):
    given = {"checkpoint": files.checkpoint, "model": files.motion, "prompt": PROMPT, "config": files.config}
    given |= {"width": 64, "height": 64, "steps": 2, "frames": 4} | changes
    pairs = [(f"--{name.replace('_', '-')}", str(value)) for name, value in given.items() if value is not None]
    return ["animate", *(word for pair in pairs for word in pair)]


def in_own_process(*words, cwd):
    # SIGINT is ignored in a shell's background jobs, and what is ignored is inherited.
    heed_interrupts = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(
        [sys.executable, "-m", "lib_animatediff", *words],
        cwd=cwd,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(cwd / "hub"), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts if os.name == "posix" else None,
    )


def ended(process):
    out, err = process.communicate(timeout=300)
    return Ended(process.returncode, out, err)


@pytest.fixture
def run(files, command):
    return lambda output, **changes: command(*arguments(files, output=output, **changes))


def test_a_clip_is_as_asked_and_the_run_says_where_on_what_and_how_fast_and_nothing_else(files, tmp_path):
    """Without a config and a network the one beside the checkpoint is taken."""
    words = arguments(files, config=None, output="new/fox.gif", frames=FRAMES)
    result = ended(in_own_process(*words, cwd=tmp_path))
    assert result.code == 0, result.err
    with Image.open(tmp_path / "new" / "fox.gif") as picture:
        assert (picture.n_frames, picture.size) == (FRAMES, (64, 64))
        assert picture.info["comment"].startswith(PROMPT.encode())
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert sum(durations) == 1000 * FRAMES / SETTINGS["fps"].default
    assert result.out.split() == [str(Path("new", "fox.gif"))]
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["fox.gif"]
    device, progress, made = result.err.splitlines()  # and no warnings of libraries
    assert (device, progress) == (f"Device: {host.pick_device('auto')}", "Sampling")
    path = re.escape(str(Path("new", "fox.gif")))
    assert re.fullmatch(rf"Rendered 8 frames of 64x64, 1\.0 s at 8 frames per second, in \d+ s: {path}", made)


def test_a_speed_from_the_settings_table_reaches_the_clip(run, tmp_path):
    done = run(tmp_path / "fast.gif", fps=20, loop_count=1, device="cpu")
    assert done.code == 0
    assert "Device" not in done.err  # one that was named is not said again
    with Image.open(tmp_path / "fast.gif") as picture:
        assert picture.info["duration"] == 50
        assert "loop" not in picture.info


def test_an_interpolated_clip_has_more_frames_and_says_so(run, tmp_path):
    done = run(tmp_path / "clip.png", frames=2, fps=4, interpolate="x3", device="cpu")
    assert done.code == 0, done.err
    assert "Rendered 2 and interpolated to 6 frames of 64x64, 0.5 s at 12 frames per second" in done.err
    with Image.open(tmp_path / "clip.png") as picture:
        durations = [frame.info["duration"] for frame in ImageSequence.Iterator(picture)]
    assert durations == pytest.approx([1000 / 12] * 6)
    fast = run(tmp_path / "clip.gif", fps=20, interpolate="x3")
    assert "shown at 50 frames per second at most, and fps is 60" in fast.err


def test_every_option_reaches_the_pipeline(files, run, tmp_path, monkeypatch):
    calls = []

    def render(_pipeline, plan, method, **kwargs):
        calls.append((plan, method, kwargs))
        return [Image.new("RGB", (16, 8), (shade, 0, 0)) for shade in (0, 255)]

    monkeypatch.setattr(host, "load_pipeline", lambda *args, **kwargs: calls.append((args, kwargs)) or MagicMock())
    monkeypatch.setattr(request, "render", render)
    asked = {"prompt": "a dog", "negative_prompt": "a cat", "seed": 7, "steps": 3}
    table = {"frames": 40, "fusion": "flat", "effect": "0: 1, -1: 0.5"}
    how = {"width": 16, "height": 8, "cfg": 4.5, "sampler": "euler", "device": "cpu:0"}
    assert run(tmp_path / "clip.gif", **asked, **table, **how).code == 0
    (where, loaded), (plan, method, rendered) = calls
    assert (where, loaded) == ((files.checkpoint,), {"config": files.config, "device": "cpu:0"})
    assert plan.sampling == Sampling(**asked)
    assert plan.settings == parse_settings(table | {"model": str(files.motion)})
    assert plan.windows == ContextWindows(fusion="flat")
    assert plan.method.modules == (ModuleFile(files.motion),)
    assert plan.method.scale == motion_scale(parse_settings(table))
    assert [module.name for module in method.modules] == [files.motion.name]
    others = ("on_step", "say", "decoder", "states", "elsewhere")
    assert {name: value for name, value in rendered.items() if name not in others} == {
        "size": (16, 8),
        "cfg": 4.5,
        "sampler": "euler",
        "spacing": None,
    }


def test_frames_are_decoded_one_at_a_time(files):
    rows, loaded = [], host.load_pipeline(files.checkpoint, config=files.config)
    loaded.vae.decoder.register_forward_pre_hook(lambda _decoder, args: rows.append(len(args[0])))
    animate(loaded, load_motion_module(files.motion), prompt=PROMPT, frames=3, size=(64, 64), steps=1)
    assert rows == [1, 1, 1]


def test_loading_leaves_the_libraries_as_talkative_as_they_were(files):
    from diffusers.utils import logging

    former = logging.get_verbosity()
    try:
        logging.set_verbosity_info()
        host.load_pipeline(files.checkpoint, config=files.config)
        assert logging.get_verbosity() == logging.INFO
        assert logging.is_progress_bar_enabled()
    finally:
        logging.set_verbosity(former)


EARLY = [
    ({"checkpoint": "nothing.safetensors"}, "no checkpoint nothing.safetensors"),
    ({"model": "nothing.ckpt"}, "nothing.ckpt cannot be read"),
    ({"kind": "v2"}, "has the layout of kind v1 or v3 and cannot be loaded as v2"),
    ({"frames": 33, "context-length": 33}, "trained on clips of 32 frames; 33 are too many"),
    ({"frames": 40, "context-length": 33}, "Lower the context length to 32"),
    ({"frames": 65000}, "frames must be between 0 and 10000"),
    ({"steps": 0}, "steps must be between 1 and 999, not 0"),
    ({"steps": 1000}, "steps must be between 1 and 999, not 1000"),
    ({"width": 65}, "width must be a multiple of 8"),
    ({"height": 0}, "height must be a multiple of 8"),
    ({"seed": -2}, "seed must be between 0 and"),
    ({"seed": 2**64}, "seed must be between 0 and"),
    ({"cfg": "nan"}, "cfg must be a finite number"),
    ({"device": "toaster"}, "cannot compute on 'toaster'"),
    ({"config": "nowhere"}, "no model_index.json in nowhere"),
    ({"output": "file/clip.gif"}, "cannot be written"),
    ({"output": "folder.gif"}, "is a folder"),
    ({"output": "clip.xyz"}, "suffix of no known format"),
]


@pytest.mark.parametrize(("changes", "words"), EARLY, ids=[str(changes) for changes, _ in EARLY])
def test_refuses_in_one_line_before_the_checkpoint_is_loaded(run, tmp_path, monkeypatch, changes, words):
    monkeypatch.setattr(host, "load_pipeline", lambda *_args, **_kwargs: pytest.fail("the slow work has begun"))
    (tmp_path / "file").touch()
    (tmp_path / "folder.gif").mkdir()
    before = sorted(tmp_path.rglob("*"))
    given = {"output": "clip.gif"} | changes
    assert words in run(tmp_path / given.pop("output"), **given).one_error
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("error", "words"),
    [(OSError(28, "No space left on device"), "clip.gif was not written: the disk is full"), (KeyboardInterrupt(), "")],
    ids=["full disk", "interruption"],
)
def test_what_goes_wrong_while_writing_is_one_line_and_leaves_no_file(run, tmp_path, monkeypatch, error, words):
    monkeypatch.setattr(os, "fsync", Mock(side_effect=error))
    result = run(tmp_path / "clip.gif")
    assert result.code != 0
    assert words in result.err.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["page.safetensors", "page.ckpt", "empty.safetensors", "other_kind.safetensors"])
def test_refuses_what_is_no_checkpoint_in_one_line(files, run, tmp_path, name):
    path = tmp_path / name
    other_kind = files.motion.read_bytes()
    path.write_bytes({"page": b"<!DOCTYPE html>", "empty": b"", "other_kind": other_kind}[path.stem])
    line = run(tmp_path / "clip.gif", checkpoint=path, device="cpu").one_error
    assert f"{name} could not be loaded as Stable Diffusion 1.5" in line
    assert not (tmp_path / "clip.gif").exists()


def test_without_a_config_and_a_name_both_are_found(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run(None, config=None)
    assert (done.code, done.out.strip()) == (0, "clip.gif"), done.err
    assert (tmp_path / "clip.gif").exists()


def test_an_error_of_several_lines_is_told_in_one(run, tmp_path, monkeypatch):
    error = MotionFileError("broken (torch says:\n    a lot).\nDownload it again.")
    monkeypatch.setattr(motion_module, "load_motion_module", Mock(side_effect=error))
    line = run(tmp_path / "clip.gif").one_error
    assert line == "Error: broken (torch says: a lot). Download it again."


@pytest.mark.matrix  # an interruption inside the process leaves no other file either, which is shown above
@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal")
def test_an_interrupted_run_leaves_its_state_at_most(files, tmp_path):
    (tmp_path / "clips").mkdir()
    words = arguments(files, steps=999, frames=1, output="clips/clip.gif", device="cpu")
    process = in_own_process(*words, cwd=tmp_path)
    assert process.stderr.readline() == "Sampling\n"
    time.sleep(1)  # well into the steps
    process.send_signal(signal.SIGINT)
    result = ended(process)
    assert result.code == 130
    assert "Traceback" not in result.err
    assert [path.name for path in (tmp_path / "clips").iterdir()] in ([], ["clip.gif.animatediff-state"])


def test_help_lists_each_setting_of_the_table(command):
    text = " ".join(command("animate", "--help").out.split())
    for setting in SETTINGS.values():
        option = OTHER_OPTIONS.get(setting.name, f"--{setting.name.replace('_', '-')}")
        assert option == "" or re.search(rf"{option}[ ,]", text), setting.name
        if setting.name not in OTHER_OPTIONS:
            assert setting.full_help in text
            # A flag is off without it, and nothing is no default.
            assert setting.type is bool or setting.default == "" or f"[default: {setting.default}" in text, setting.name


def test_help_names_the_command_and_version_the_packages(command):
    result = command("--help")
    assert result.code == 0
    assert re.search(r"animate +Render a clip from a prompt", result.out)
    result = command("--version")
    assert (result.code, result.out.strip()) == (0, f"animatediff, version {__version__}")


def test_a_second_pass_is_in_the_result_and_in_the_recipe(run, tmp_path):
    words = {"frames": 2, "steps": 2, "upscale": 1.5, "upscale_denoise": 0.5, "device": "cpu"}
    clip = tmp_path / "clip.png"
    done = run(clip, **words)
    assert done.code == 0, done.err
    assert "Rendered 2 frames of 96x96" in done.err
    recipe = read_recipe(clip)
    assert recipe.data["size"] == [64, 64]
    hires = "Denoising strength: 0.5, Hires upscale: 1.5, Hires steps: 1, Hires upscaler: Lanczos"
    assert hires in recipe.infotext


def test_what_has_no_effect_is_said_once_and_before_the_checkpoint_is_loaded(command, capsys, monkeypatch, tmp_path):
    early = []
    load = host.load_pipeline

    def loaded(*words, **more):
        early.append(capsys.readouterr().err)
        return load(*words, **more)

    monkeypatch.setattr(host, "load_pipeline", loaded)
    words = ["--steps", 1, "--frames", 2, "--width", 32, "--height", 32, "--interpolator", "dis", "--upscale", 1.01]
    done = command("animate", *words, "--output", tmp_path / "a.gif")
    assert done.code == 0, done.err
    assert "interpolator has no effect, since no frames are added." in early[0]
    assert "upscale 1.01 leaves the size at 32x32" in early[0]
    assert "interpolator" not in done.err
    done = command("animate", *words[:-4], "--upscale-denoise", 0.7, "--output", tmp_path / "a.gif")
    assert "upscale_denoise has no effect, since the clip is not enlarged." in early[1]
