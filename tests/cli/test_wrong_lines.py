"""Whatever is wrong with a command line: one line, an exit code, no traceback, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from unittest.mock import Mock

import pytest

from lib_animatediff.cli import animate as animate_module
from lib_animatediff.cli import evaluate as evaluate_module
from lib_animatediff.cli import train as train_module
from lib_animatediff.cli.one_clip import render as one_clip_module
from lib_animatediff.cli.render import command as render_module
from motion_module import AnimateDiffError
from tools.fuzz.command_lines import wrong_lines


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder with a pipe, in which nothing that is slow may begin."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe.safetensors")

    accept = Mock(side_effect=AnimateDiffError("The line was accepted."))
    monkeypatch.setattr(one_clip_module, "prepare", accept)
    monkeypatch.setattr(render_module, "Crew", accept)
    monkeypatch.setattr(evaluate_module, "check", accept)
    monkeypatch.setattr(train_module, "train", accept)
    return tmp_path


def check(run, words):
    told = run(*words).one_error
    assert "Traceback" not in told
    assert told.isprintable(), words
    return told


def test_two_hundred_wrong_lines_end_in_one_line_each(command, place):
    told = [check(command, words) for words in wrong_lines(200)]
    unknown = [line for line in told if "AD-K22" in line]
    assert not unknown, unknown


def test_an_error_that_nobody_knows_has_a_code_and_a_log(command, monkeypatch, tmp_path):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(animate_module, "parse_settings", lambda _: 1 / 0)
    told = check(command, ["animate"])
    assert "ZeroDivisionError" in told
    assert "[AD-K22]" in told
    (log,) = tmp_path.glob("animatediff-error-*.log")
    assert str(log) in told
    assert "Traceback" in log.read_text()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"), "AD-K20"),
        (MemoryError(), "AD-K20"),
        (OSError(28, "No space left on device", "clip.gif"), "AD-K21"),
        (OSError(36, "File name too long", "n" * 300), "AD-K24"),
        (OSError(22, "Invalid argument"), "AD-K22"),
    ],
)
def test_errors_of_the_machine_have_sentences_of_their_own(command, monkeypatch, error, code):
    monkeypatch.setattr(animate_module, "parse_settings", Mock(side_effect=error))
    assert code in check(command, ["animate"])


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for other processes")
def test_sigterm_ends_like_ctrl_c_and_leaves_nothing(tmp_path):
    words = [sys.executable, "-m", "lib_animatediff", "animate", "--output", str(tmp_path / "clip.gif")]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
        while not (line := process.stderr.readline()).startswith("Device:"):
            assert line, "it has ended"
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        told = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert told.splitlines()[-1].endswith("Stopped.")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGTERM for other processes")
def test_sigterm_keeps_the_exit_code_where_python_would_end_by_sigint(tmp_path):
    """It arrives in code that runs from text, as in the definition of a dataclass."""
    (tmp_path / "__main__.py").write_text(
        "import click\nfrom lib_animatediff.cli.last_resort import run\n"
        "code = 'import os, signal; os.kill(os.getpid(), signal.SIGTERM)'\n"
        "run(click.Command('command', callback=lambda: exec(code)))\n"
    )
    done = subprocess.run([sys.executable, tmp_path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.strip()) == (130, "Stopped.")


def test_a_random_seed_is_said(command, monkeypatch):
    prepare = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(one_clip_module, "prepare", prepare)
    told = command("animate", "--seed", -1).err
    seed = prepare.call_args.args[0].seed
    assert f"Seed: {seed}" in told
    assert 0 <= seed < 2**32
