"""The command `render`: every clip of a manifest once, whatever happens to some of them."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import click
import pytest
from PIL import Image
from support.pocket_clips import pixels

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.cli import asked
from lib_animatediff.cli.render import clips, command, fields, watching
from lib_animatediff.cli.render import run as render_run
from lib_animatediff.cli.render.crew import Crew
from lib_animatediff.cli.render.progress import Progress, in_words
from lib_animatediff.cli.render.renderer import CLAIMS
from lib_animatediff.cli.render.results import Results
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.jobs.many import grid, models
from lib_animatediff.jobs.many.claims import Claims
from lib_animatediff.jobs.many.finished import is_finished, job_id
from lib_animatediff.jobs.many.manifest import read_manifest
from lib_animatediff.video import read_clip, read_recipe, write_clip
from motion_module.errors import ClipNotWrittenError

ROOT = Path(__file__).parents[2]
SMALL = {"steps": 1, "frames": 2, "width": 32, "height": 32, "format": "apng"}


@pytest.fixture
def manifest(tmp_path):
    """Writes a manifest of small clips: a function `(*rows) -> path`. A row that is text is a line as it is."""

    def write(*rows, defaults=SMALL):
        path = tmp_path / "shots.jsonl"
        lines = [{"defaults": defaults}, *rows]
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in lines))
        return path

    return write


@pytest.fixture
def nothing_loads(monkeypatch):
    monkeypatch.setattr(host, "load_pipeline", lambda *_args, **_kwargs: pytest.fail("a model is loaded"))


def jobs_of(path, folder):
    refused = []
    rows = clips.rows_of(read_manifest(path), {})
    reserved = Results(folder, "shots").is_reserved
    jobs = clips.checked(rows, folder, "cpu", lambda row, error: refused.append((row.number, error.code)), reserved)
    return jobs, refused


def names(folder):
    return sorted(path.name for path in folder.glob("*.png") if not path.name.startswith("contact-sheet"))


def failures(folder):
    return [json.loads(line) for line in (folder / "failed.jsonl").read_text().splitlines()]


def summary(ended):
    return json.loads(ended.out)


def test_good_rows_are_rendered_bad_ones_are_named_and_a_second_run_does_nothing(run, manifest, tmp_path, monkeypatch):
    path = manifest(
        {"prompt": "a {red|blue} disc", "seed": 2**64 - 1},
        {"prompt": "a disc", "sampler": "eule"},
        '{"prompt": ',
        {"prompt": "a green disc", "seed": -1, "output": "sub/green.png"},
        {"prompt": "a disc", "cfg": "high"},
    )
    folder = tmp_path / "shots"
    ended = run("render", path, "--json")
    assert ended.code == 3, ended.err
    made = summary(ended)
    assert (made["clips"], made["rendered"], made["skipped"], made["failed"]) == (3, 3, 0, 3)
    failed = failures(folder)
    assert [(one["clip"], one["row"], one["code"]) for one in failed] == [
        (3, "line 3", "AD-M27"),
        (4, "line 4", "AD-M06"),
        (6, "line 6", "AD-M27"),
    ]
    assert "eule" in failed[0]["error"]
    assert fields.named(failed[0]["fields"]) == {
        **fields.named(SMALL),
        "formats": ["apng"],
        "prompt": "a disc",
        "sampler": "eule",
    }
    seeds = {read_recipe(file).data["prompt"]: read_recipe(file).data["seed"] for file in folder.rglob("[ag]*.png")}
    green = seeds.pop("a green disc")
    assert seeds == {"a red disc": 2**64 - 1, "a blue disc": 2**64 - 1}
    assert 0 <= green < 2**32
    page = (folder / "index.html").read_text()
    assert all(f'src="{name}"' in page for name in (*names(folder), "sub/green.png"))
    assert page.count("AD-M27") == 2
    assert Image.open(folder / "contact-sheet.png").size == (3 * 128, 128)
    assert not list((folder / CLAIMS).iterdir())

    alone = tmp_path / "alone.png"
    words = [f"--{name}={value}" for name, value in SMALL.items()]
    assert run("animate", "--prompt", "a red disc", "--seed", 2**64 - 1, *words, "--output", alone).code == 0
    (red,) = folder.glob("a-red-disc-*.png")
    assert (pixels_of(red) == pixels_of(alone)).all()

    monkeypatch.setattr(host, "load_pipeline", lambda *_args, **_kwargs: pytest.fail("a model is loaded"))
    again = run("render", path, "--json")
    assert again.code == 3
    assert (summary(again)["rendered"], summary(again)["skipped"]) == (0, 3)
    assert read_recipe(folder / "sub" / "green.png").data["seed"] == green


def pixels_of(path):
    return pixels([frame.image for frame in read_clip(path)])


def test_a_corrected_manifest_has_no_failures(run, manifest, tmp_path):
    assert run("render", manifest({"prompt": "a", "sampler": "x"}, {"prompt": "b"})).code == 3
    assert run("render", manifest({"prompt": "a", "sampler": "euler"}, {"prompt": "b"})).code == 0
    assert not (tmp_path / "shots" / "failed.jsonl").exists()
    assert len(names(tmp_path / "shots")) == 2


@pytest.mark.parametrize(
    ("rows", "code"),
    [
        ([{"prompt": "a", "steps": 0}], "AD-D14"),
        ([{"prompt": "a", "seed": 2**64}], "AD-D12"),
        ([{"prompt": "a", "checkpoint": "nothing.safetensors", "motion": "nothing.ckpt"}], "AD-D16"),
        ([{"promt": "a"}], "AD-M24"),
        ([{"prompt": "a", "device": "cpu"}], "AD-M24"),
        ([{"motion": "a", "model": "b"}], "AD-M20"),
        ([{"prompt": True}], "AD-M22"),
        ([{"prompt": "a\0"}], "AD-M23"),
        ([{"freeinit_enable": "perhaps"}], "AD-M21"),
        ([{"prompt": {"a": 1}}], "AD-M22"),
        ([{"prompt": "{a|{b|c}}"}], "AD-M18"),
    ],
)
def test_a_row_is_refused_before_a_model_is_loaded(run_early, manifest, rows, code):
    ended = run_early("render", manifest(*rows))
    assert ended.code == 4
    assert f"[{code}]" in ended.err, ended.err


def test_without_a_clip_the_exit_code_is_4(run_early, manifest, tmp_path, monkeypatch):
    assert "AD-M05" in run_early("render", tmp_path / "none.jsonl").err
    path = manifest({"prompt": "a"}, defaults={"sied": 1})
    ended = run_early("render", path)
    assert (ended.code, ended.one_error.endswith("[AD-M24]")) == (4, True)
    path = manifest({"seed": "1..10"})
    monkeypatch.setattr(clips, "MANIFEST_CLIPS", 9)
    ended = run_early("render", path)
    assert (ended.code, ended.one_error.endswith("[AD-M25]")) == (4, True)
    monkeypatch.setattr(clips, "MANIFEST_CLIPS", 10)
    assert run_early("render", path, "--check").code == 0


def test_a_folder_that_is_read_only_is_one_sentence(run_early, manifest, monkeypatch):
    def read_only(**_):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(render_run.tempfile, "TemporaryFile", read_only)
    ended = run_early("render", manifest({"prompt": "a"}))
    assert (ended.code, ended.one_error.endswith("[AD-M32]")) == (4, True)


def test_a_full_disk_ends_the_run_with_one_sentence_and_the_same_command_continues(
    run, manifest, tmp_path, monkeypatch
):
    written = []

    def write(path, *words, **more):
        if written:
            raise ClipNotWrittenError("...", frames_at=None) from OSError(errno.ENOSPC, "No space left on device")
        written.append(path)
        return write_clip(path, *words, **more)

    monkeypatch.setattr(asked, "write_clip", write)
    path = manifest({"seed": "1..3"})
    ended = run("render", path)
    assert ended.code == 3
    assert ended.err.count("the disk is full") == 1
    assert "1 of 3 clips are finished" in ended.err
    assert not (tmp_path / "shots" / "failed.jsonl").exists()
    monkeypatch.setattr(asked, "write_clip", write_clip)
    ended = run("render", path, "--json")
    assert (ended.code, summary(ended)["rendered"], summary(ended)["clips"]) == (0, 2, 3)


def test_a_clip_that_another_run_has_is_waited_for_and_not_rendered_again(run, manifest, tmp_path, monkeypatch):
    folder, path = tmp_path / "shots", manifest({"prompt": "a"})
    assert run("render", path).code == 0
    (job,), _ = jobs_of(path, folder)
    away = tmp_path / "away.png"
    job.places[0].rename(away)
    claim = Claims(folder / CLAIMS).take(job.id)

    def end():
        away.rename(job.places[0])
        claim.release()

    monkeypatch.setattr(host, "load_pipeline", lambda *_args, **_kwargs: pytest.fail("it is rendered twice"))
    other = threading.Timer(1.0, end)
    other.start()
    ended = run("render", path, "--json")
    other.join()
    assert (ended.code, summary(ended)["rendered"], summary(ended)["clips"]) == (0, 0, 1)


def test_rows_with_the_same_models_and_sizes_follow_each_other(manifest, tmp_path):
    lora = str(POCKET.folder / POCKET.style_lora)
    rows = [{"width": width, "lora": added} for width in (64, 72) for added in (None, lora)] * 2
    jobs, refused = jobs_of(manifest(*({**row, "seed": seed} for seed, row in enumerate(rows))), tmp_path)
    assert not refused
    groups = [(job.models, job.shape) for job in jobs]
    assert len(groups) == 8
    assert sum(one != other for one, other in itertools.pairwise(groups)) == 3


def test_models_are_loaded_once_for_what_follows(manifest, tmp_path, monkeypatch):
    loaded = []
    monkeypatch.setattr(models.Ready, "load", lambda self: loaded.append(self.request.loras) or object())
    held = models.Models()
    (job,), _ = jobs_of(manifest({"prompt": "a"}), tmp_path)
    ready = held.prepare(clips.ask(job.words, "cpu").request)
    first = held.pipeline(ready)
    assert held.pipeline(held.prepare(replace(ready.request, seed=5))) is first
    assert held.prepare(replace(ready.request, seed=6)).method is ready.method
    assert held.pipeline(replace(ready, request=replace(ready.request, device="meta"))) is not first
    assert len(loaded) == 2


def test_random_seeds_of_rows_that_are_the_same_differ_and_stay(manifest, tmp_path):
    path = manifest({"prompt": "a", "seed": [-1, "-1"]}, {"prompt": "a", "seed": -1})
    first, second = (jobs_of(path, tmp_path)[0] for _ in range(2))
    assert first == second
    assert len({job.seed for job in first}) == 3


def test_a_clip_is_finished_if_all_its_files_hold_its_recipe(manifest, tmp_path):
    (job,), _ = jobs_of(manifest({"prompt": "a", "format": ["gif", "txt"]}), tmp_path)
    recipe = replace(clips.ask(job.words, "cpu"), output=Path(job.output)).recipe
    frames = [Image.new("RGB", (64, 64), colour) for colour in ("red", "blue")]
    assert not is_finished(job.places, job.id)
    write_clip(Path(job.output), frames, formats=["gif", "txt"], recipe=recipe)
    assert is_finished(job.places, job.id)
    assert job_id({**recipe.data, "versions": {}}) == job.id
    assert not is_finished(job.places, job_id({**recipe.data, "seed": 7}))
    job.places[1].unlink()
    assert not is_finished(job.places, job.id)
    write_clip(Path(job.output), frames, formats=["gif", "txt"], recipe=recipe)
    job.places[0].write_bytes(job.places[0].read_bytes()[:20])
    assert not is_finished(job.places, job.id)


def test_a_watched_folder_renders_what_is_put_in_when_it_is_whole_and_again_what_changes(run, tmp_path, monkeypatch):
    inbox, looks = tmp_path / "inbox", []
    inbox.mkdir()
    row = {**SMALL, "prompt": "a", "seed": 1}

    def look(_seconds):
        number = len(looks)
        looks.append(names(inbox / "clips"))
        if number == 1:
            (inbox / "one.json").write_text("{")  # it is still being copied
        if number == 2:
            (inbox / "one.json").write_text(json.dumps(row))
            (inbox / "bad.jsonl").write_text("{}{}")
        if number == 5:
            (inbox / "one.json").write_text(json.dumps([row, {**row, "seed": 2}]))
        if number == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", look)
    ended = run("watch", inbox)
    assert ended.code == 130
    assert [len(there) for there in looks] == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert ended.err.count("AD-M06") == 1
    assert ended.err.count("1 finished, 1 to render") == 1
    made = {path.name for path in (inbox / "clips").iterdir()}
    assert {"index-one.html", "index-bad.html", "failed-bad.jsonl"} <= made
    assert "failed-one.jsonl" not in made
    assert "AD-M34" in run("watch", tmp_path / "none").one_error


def test_devices_are_one_for_each_process():
    assert command._devices(None, None, "cpu:2, cuda:1") == ["cpu", "cpu", "cuda:1"]
    for wrong in ("", "cpu:0", "cpu:65"):
        with pytest.raises(click.BadParameter):
            command._devices(None, None, wrong)


@pytest.mark.parametrize("words", [("--webui", "http://127.0.0.1:1", "--ray", 2), ("--devices", "cpu", "--ray", 2)])
def test_one_option_says_who_renders(run_early, manifest, words):
    ended = run_early("render", manifest({}), *words)
    assert (ended.code, "each say who renders" in ended.one_error) == (2, True)


def test_a_cluster_is_asked_for_no_more_workers_than_there_are_clips(run, manifest, monkeypatch):
    asked = []
    monkeypatch.setattr(command, "_crew", lambda _w, _d, folder, ray: asked.append(ray) or Crew(["cpu"], folder))
    run("render", manifest({"seed": [1, 2], "steps": 1, "frames": 1}), "--ray", 64, "--check")
    assert asked == [2]


def test_a_device_that_does_not_exist_is_one_sentence(run_early, manifest):
    ended = run_early("render", manifest({}), "--devices", "nonsense")
    assert (ended.code, ended.one_error.endswith("[AD-D17]")) == (4, True)


def test_every_option_of_a_clip_is_a_field():
    assert {"prompt", "seed", "loras", "video", "context_length", "continued"} <= fields.FIELDS.keys()
    assert not {"device", "as_json", "contact_sheet", "camera_drawing", "ray", "help"} & fields.FIELDS.keys()
    assert fields.FIELDS["loras"] == grid.Field(multiple=True)
    assert fields.FIELDS["cfg"] == grid.Field(number=True)
    assert fields.named({"Negative-Prompt": "a", "lora": "b"}) == {"negative_prompt": "a", "loras": "b"}
    words = fields.words_of(
        {"prompt": "-x", "loras": ["a", "b"], "freeinit_enable": "yes", "reverse": False, "cfg": None}
    )
    assert words == ["--prompt=-x", "--lora=a", "--lora=b", "--freeinit-enable"]


def test_the_time_that_is_left_follows_from_the_work(manifest, tmp_path, capsys):
    now = [0.0]
    jobs, _ = jobs_of(manifest({"seed": [1, 2], "frames": 2}, {"seed": 3, "frames": 8}), tmp_path)
    progress = Progress(jobs, lambda: now[0])
    now[0] = 10
    progress.end(jobs[0], "a.png", rendered=True)
    assert capsys.readouterr().err == "[1/3] a.png (50 s left)\n"
    progress.say(jobs[0], ["x", "x"])
    assert capsys.readouterr().err == "Clip 1: x\n"
    assert [in_words(seconds) for seconds in (5, 90, 7500)] == ["5 s", "2 min", "2 h 5 min"]


def started(path, *words):
    line = [sys.executable, "-m", "lib_animatediff", "render", path, "--json", *words]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def workers_of(process):
    """The processes that a run has started to render, on Linux."""
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in listed if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.matrix
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")
def test_two_runs_at_once_whose_workers_are_killed_lose_nothing_and_render_nothing_else(run, manifest, tmp_path):
    rows = [{"prompt": "a {red|blue} disc", "seed": "1..6", "steps": 3, "frames": 4}, {"sampler": "x"}]
    path = manifest(*rows)
    runs = [started(path, "--devices", "cpu:2"), started(path)]
    kills, chance = 0, random.Random(0)
    while kills < 6 and any(process.poll() is None for process in runs):
        time.sleep(chance.uniform(1, 6))
        alive = [worker for process in runs if process.poll() is None for worker in workers_of(process)]
        if alive:
            os.kill(chance.choice(alive), signal.SIGKILL)
            kills += 1
    ended = [(*process.communicate(timeout=900), process.returncode) for process in runs]
    assert [code for _, _, code in ended] == [3, 3], ended
    folder = tmp_path / "shots"
    assert len(names(folder)) == 12
    assert [one["code"] for one in failures(folder)] == ["AD-M27"]
    assert sum(json.loads(out)["rendered"] for out, _, _ in ended) <= 12
    assert not list((folder / CLAIMS).iterdir())
    jobs, _ = jobs_of(path, folder)
    assert all(is_finished(job.places, job.id) for job in jobs)
    assert run("render", path, "--output", tmp_path / "alone").code == 3
    assert names(tmp_path / "alone") == names(folder)
    for name in names(folder):
        assert (folder / name).read_bytes() == (tmp_path / "alone" / name).read_bytes(), name
