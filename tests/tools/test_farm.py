"""The templates of farm/ and the simulation of docs/farm.md."""

from __future__ import annotations

import math
import os
import re
import shutil
import signal
import subprocess
import time
from functools import partial
from pathlib import Path

import pytest
import yaml

from lib_animatediff.cli.main import cli
from tools.ray_clip import __main__ as ray_clip
from tools.ray_clip.speedup import EFFICIENCY, GIGABIT, LATENCY, Step, seconds_of, speedup

ROOT = Path(__file__).parents[2]
TEMPLATES = sorted(path for path in (ROOT / "farm").rglob("*") if path.is_file())


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_a_template_gives_options_that_render_has(path):
    known = {option for parameter in cli.commands["render"].params for option in parameter.opts}
    lines = re.findall(r"-m lib_animatediff render ((?:[^\n]*\\\n)*[^\n]*)", path.read_text())
    assert lines
    assert {word for line in lines for word in re.findall(r"--[a-z]+", line)} <= known


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs a shell")
@pytest.mark.parametrize("path", [path for path in TEMPLATES if path.suffix == ".sh"], ids=lambda path: path.name)
def test_a_script_can_be_read(path):
    assert subprocess.run(["bash", "-n", path], check=False).returncode == 0


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_ctrl_c_ends_all_parts_of_the_loop(tmp_path):
    python = tmp_path / "python"
    python.write_text('#!/bin/sh\necho $$ > "$0.$$"\nexec sleep 60\n')
    python.chmod(0o755)
    words = ["sh", ROOT / "farm" / "loop.sh", "shots.jsonl", "2"]
    # SIGINT is ignored in a shell's background jobs, and what is ignored is inherited.
    heed = partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    loop = subprocess.Popen(words, env=os.environ | {"PYTHON": str(python)}, start_new_session=True, preexec_fn=heed)
    _until(lambda: len(list(tmp_path.glob("python.*"))) == 2)
    os.killpg(loop.pid, signal.SIGINT)
    assert loop.wait(10) == 130
    assert len(list(tmp_path.glob("python.*"))) == 2  # and nothing was started again
    for path in tmp_path.glob("python.*"):
        _until(lambda path=path: not _is_running(int(path.suffix[1:])))


def _until(is_so):
    end = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.02)


def _is_running(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def test_the_bundle_has_a_task_for_each_part_and_then_the_index():
    template = yaml.safe_load((ROOT / "farm" / "openjd" / "template.yaml").read_text())
    render, index = template["steps"]
    (part,) = render["parameterSpace"]["taskParameterDefinitions"]
    assert (part["name"], part["range"]) == ("Part", "1-{{Param.Parts}}")
    assert index["dependencies"] == [{"dependsOn": render["name"]}]
    given = {parameter["name"] for parameter in template["parameterDefinitions"]}
    used = re.findall(r"\{\{Param\.(\w+)\}\}", (ROOT / "farm" / "openjd" / "template.yaml").read_text())
    assert set(used) == given


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
def test_without_network_and_own_work_only_whole_rounds_count(workers):
    step = Step(windows=83, window=0.5, sent=0, received=0)
    rounds = math.ceil(83 / workers)
    assert speedup(step, workers, 1) == pytest.approx(83 / rounds, rel=2 * LATENCY * rounds / 0.5)


def test_a_slow_network_carries_one_output_after_the_other():
    step = Step(windows=40, window=0.001, sent=10**6, received=10**6)
    assert seconds_of(step, 64, 1) == pytest.approx(40 * 10**6 / (GIGABIT * EFFICIENCY), rel=0.05)


def test_the_page_has_the_table_of_the_simulation(monkeypatch, capsys):
    page = (ROOT / "docs" / "farm.md").read_text(encoding="utf-8")
    for words in ([], ["--seconds", "0.1"]):
        monkeypatch.setattr("sys.argv", ["ray_clip", "speedup", *words])
        ray_clip.main()
        assert capsys.readouterr().out.strip() in page
