"""`resume`: a command that was killed goes on to the same file; and `render` after a worker that died."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hosts.diffusers.control.test_camera import files as camera_files  # noqa: F401 - a fixture

from lib_animatediff.cli.render import clips
from lib_animatediff.cli.render.renderer import Renderer
from lib_animatediff.jobs import unfinished
from lib_animatediff.jobs.many.manifest import read_manifest
from lib_animatediff.jobs.unfinished import SUFFIX, UnfinishedClip, read_state
from lib_animatediff.video import read_recipe
from motion_module import ClipError

ROOT = Path(__file__).parents[2]
STEPS = 10
DRAWING = ["--frames", 4, "--sampler", "euler-a"]  # noise at each step
SMALL = ["--width", 32, "--height", 32, "--device", "cpu", "--format", "apng", "--prompt", "a red disc moving right"]
# A process in which a state is kept after each step, however short the steps are.
KEEPING = (
    "from lib_animatediff.jobs import unfinished; unfinished.MOST_TIME = 1e9;"
    "from lib_animatediff.cli.main import main; main()"
)


class Crash(BaseException):
    """Nothing in the program expects it."""


@pytest.fixture
def crash_after(monkeypatch):
    """Let a process crash after some states: a function of their number; 0: it does not crash."""
    monkeypatch.setattr(unfinished, "MOST_TIME", 1e9)
    keep, kept = UnfinishedClip.keep, []

    def crash(count):
        def keep_and_crash(states, state):
            keep(states, state)
            kept.append(state.sampled)
            if len(kept) == count:
                raise Crash

        kept.clear()
        monkeypatch.setattr(UnfinishedClip, "keep", keep_and_crash)
        return kept

    return crash


@pytest.fixture
def interruption(run, crash_after, tmp_path, monkeypatch, capsys):
    """The path of a clip that was interrupted after its first step, in its folder, and what was said."""
    folder = tmp_path / "clips"
    folder.mkdir()
    monkeypatch.chdir(folder)
    crash_after(1)
    with pytest.raises(Crash):
        run("animate", *SMALL, "--frames", 2, "--steps", 2, "--seed", -1, "--output", "a.png")
    crash_after(0)
    monkeypatch.chdir(tmp_path)
    return folder / "a.png", capsys.readouterr().err


@pytest.fixture
def interrupted(interruption):
    """The path alone."""
    return interruption[0]


def killed_in_the_middle(folder, *words):
    """Kill a command as soon as it has kept a state, and return that."""
    process = subprocess.Popen(
        [sys.executable, "-c", KEEPING, *map(str, words)],
        cwd=folder,
        env=os.environ | {"HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    end = time.monotonic() + 240
    while time.monotonic() < end and process.poll() is None:
        try:
            stored = read_state(folder / f"a.png{SUFFIX}")
        except ClipError:
            time.sleep(0.01)
            continue
        process.send_signal(signal.SIGKILL)
        break
    process.wait()
    return stored


@pytest.mark.skipif(os.name != "posix", reason="Windows has no such signal")
def test_a_command_that_is_killed_goes_on_to_the_same_bytes(run, tmp_path, monkeypatch):
    folder, whole = tmp_path / "killed", tmp_path / "whole"
    folder.mkdir()
    words = ["animate", *SMALL, *DRAWING, "--steps", STEPS, "--seed", 7]
    stored = killed_in_the_middle(folder, *words, "--output", "a.png")
    assert 1 <= stored.state.sampled < STEPS
    assert not (folder / "a.png").exists()
    calls = []
    monkeypatch.setattr(UnfinishedClip, "is_due", lambda _: calls.append(1))
    monkeypatch.chdir(tmp_path)
    resumed = run("resume", "killed/a.png")
    assert resumed.code == 0, resumed.err
    assert 1 <= len(calls) <= STEPS - stored.state.sampled
    done = run(*words, "--output", whole / "a.png")
    assert done.code == 0, done.err
    assert (folder / "a.png").read_bytes() == (whole / "a.png").read_bytes()
    assert [path.name for path in folder.iterdir()] == ["a.png"]


def test_the_random_seed_is_the_same_and_the_user_is_told_how_to_continue(run, interruption):
    interrupted, said = interruption
    assert "The clip is not finished. To continue it: python -m lib_animatediff resume a.png" in said
    seed = said.split("Seed: ")[1].split("\n")[0]
    state = interrupted.with_name(f"a.png{SUFFIX}")
    assert read_state(state).words[-1] == f"--seed={seed}"
    done = run("resume", state)
    assert done.code == 0, done.err
    assert read_recipe(interrupted).data["seed"] == int(seed)
    assert not state.exists()
    assert "AD-J03" in run("resume", interrupted).one_error


def test_another_run_of_the_clip_replaces_the_state_and_says_so(run, interrupted, monkeypatch):
    monkeypatch.chdir(interrupted.parent)
    done = run("animate", *SMALL, "--frames", 2, "--steps", 1, "--output", "a.png")
    assert "This run replaces one that was interrupted. To continue that one: " in done.err
    assert [path.name for path in interrupted.parent.iterdir()] == ["a.png"]


def test_a_state_elsewhere_or_without_its_folder_is_refused(run, interrupted, tmp_path):
    state = interrupted.with_name(f"a.png{SUFFIX}")
    other = tmp_path / "other"
    other.mkdir()
    (other / state.name).write_bytes(state.read_bytes())
    assert "AD-J08" in run("resume", other / "a.png").one_error
    interrupted.parent.rename(tmp_path / "moved")
    assert "AD-J07" in run("resume", tmp_path / "moved" / "a.png").one_error
    assert [path.name for path in other.iterdir()] == [state.name]


def test_a_failure_before_the_first_state_does_not_name_that_of_another_clip(run, interrupted, monkeypatch):
    monkeypatch.chdir(interrupted.parent)
    monkeypatch.setattr("lib_animatediff.cli.one_clip.render._render_and_write", lambda *_: 1 / 0)
    failed = run("animate", *SMALL, "--frames", 2, "--steps", 1, "--output", "a.png")
    assert failed.code == 1
    assert "This run replaces one that was interrupted." in failed.err
    assert "The clip is not finished" not in failed.err


def test_the_command_that_continues_a_clip_can_be_pasted(run, crash_after, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    crash_after(1)
    with pytest.raises(Crash):
        run("animate", *SMALL, "--frames", 2, "--steps", 2, "--output", "my clip.png")
    line = next(line for line in capsys.readouterr().err.splitlines() if "To continue it: " in line)
    assert shlex.split(line.partition("To continue it: ")[2])[-2:] == ["resume", "my clip.png"]


def with_words(state, *words):
    """A state whose command has further options, as one from a stranger could have."""
    content = torch.load(state, weights_only=True)
    content["words"] += map(str, words)
    torch.save(content, state)


def test_a_state_from_a_stranger_replaces_no_folder_and_no_other_image(run, interrupted, tmp_path):
    state, private = interrupted.with_name(f"a.png{SUFFIX}"), tmp_path / "private.png"
    kept = state.read_bytes()
    private.write_bytes(b"mine")
    for sheet in (private, tmp_path / "new.png", "../clips/../new.png"):
        with_words(state, "--contact-sheet", sheet)
        assert "AD-J11" in run("resume", state).one_error
        state.write_bytes(kept)
    (interrupted.parent / "a").mkdir()
    (interrupted.parent / "a" / "mine.txt").write_text("mine")
    with_words(state, "--format", "frames")
    assert "AD-J10" in run("resume", state).one_error
    state.write_bytes(kept)
    with_words(state, "--contact-sheet", private)
    done = run("resume", state, "--contact-sheet", private)
    assert done.code == 0, done.err
    assert private.read_bytes()[1:4] == b"PNG"
    assert (interrupted.parent / "a" / "mine.txt").read_text() == "mine"


def test_a_state_from_a_stranger_draws_no_camera_path(run, interrupted, tmp_path, camera_files):  # noqa: F811
    state, private = interrupted.with_name(f"a.png{SUFFIX}"), tmp_path / "private.svg"
    private.write_text("mine")
    model = camera_files / "camera.safetensors"
    with_words(state, "--camera", "pan-left", "--camera-model", model, "--camera-drawing", private)
    assert "AD-J04" in run("resume", state).one_error
    assert private.read_text() == "mine"


def test_a_new_contact_sheet_beside_the_clip_is_written(run, interrupted):
    with_words(interrupted.with_name(f"a.png{SUFFIX}"), "--contact-sheet", "sheet.png")
    done = run("resume", interrupted)
    assert done.code == 0, done.err
    assert sorted(path.name for path in interrupted.parent.iterdir()) == ["a.png", "sheet.png"]


def test_a_state_of_other_files_is_refused_before_anything_is_loaded(interrupted, run_early, monkeypatch):
    monkeypatch.setattr("lib_animatediff.jobs.recipe.file_hash", lambda path: "0" * 64)
    assert "AD-J04" in run_early("resume", interrupted).one_error
    assert interrupted.with_name(f"a.png{SUFFIX}").exists()


def test_render_goes_on_with_the_clip_of_a_worker_that_died(run, crash_after, tmp_path):
    path, folder = tmp_path / "a.json", tmp_path / "a"
    folder.mkdir()
    row = {"prompt": "a", "steps": 3, "frames": 2, "width": 32, "height": 32, "output": "b.png", "sampler": "euler-a"}

    def rendered(renderer, **changes):
        path.write_text(json.dumps({**row, **changes}))
        rows = clips.rows_of(read_manifest(path), {})
        (job,) = clips.checked(rows, folder, "cpu", lambda _row, error: pytest.fail(str(error)), lambda _: False)
        return renderer(job)

    crash_after(2)
    with pytest.raises(Crash):
        rendered(Renderer(folder, "cpu"))
    kept = crash_after(0)
    renderer = Renderer(folder, "cpu")
    assert rendered(renderer).kind == "rendered"
    assert kept == [3]
    assert rendered(renderer, output="c.png").kind == "rendered"
    assert kept == [3, 1, 2, 3]
    assert (folder / "b.png").read_bytes() == (folder / "c.png").read_bytes()
    assert not list(folder.glob(f"*{SUFFIX}"))
    renderer.close()
