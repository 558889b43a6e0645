"""The rows of `render`: their files, their seeds, and what a check leaves."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace

import pytest
from support.pocket_clips import pixels

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.cli import asked
from lib_animatediff.cli.render import clips, command, fields, watching
from lib_animatediff.cli.render import run as render_run
from lib_animatediff.cli.render.renderer import Renderer
from lib_animatediff.cli.render.results import Results
from lib_animatediff.jobs.many.errors import ManifestError, StoppedError
from lib_animatediff.jobs.many.manifest import read_manifest
from lib_animatediff.jobs.many.random_seeds import FILE
from lib_animatediff.video import read_clip, read_recipe, write_clip
from motion_module.errors import ClipNotWrittenError

SMALL = {"steps": 1, "frames": 2, "width": 32, "height": 32, "prompt": "a", "format": "apng"}


@pytest.fixture
def checked(tmp_path):
    """The jobs of rows, and the numbers and codes of those that are refused: a function `(*rows, shard)`."""

    def check(*rows, shard=None):
        path = tmp_path / "shots.json"
        path.write_text(json.dumps({"defaults": SMALL, "clips": rows}))
        asked_for = clips.rows_of(read_manifest(path), {})
        if shard:
            asked_for = command.of_shard(asked_for, command.Shard(*shard))
        refused = []

        def refuse(row, error):
            refused.append((row.number, error.code))

        return clips.checked(asked_for, tmp_path, "cpu", refuse, Results(tmp_path, "shots").is_reserved), refused

    return check


def outputs(jobs, folder):
    return [job.places[0].relative_to(folder).as_posix() for job in jobs]


def test_the_same_clip_of_two_rows_is_one_job(checked):
    same = {"seed": 1}
    jobs, refused = checked(same, same, {**same, "output": "b.png"}, {"output": "./b.png", "seed": "1"})
    assert [job.number for job in jobs] == [1, 3]
    assert not refused


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"output": "b.png"}, {"output": "B.png"}),
        ({"output": "b.png"}, {"output": "./b.png"}),
        ({"output": "b.png"}, {"output": ". /b.png"}),
        ({"output": "fox?.png"}, {"output": "fox*.png"}),
        ({"output": "b.gif"}, {"output": "b.webp"}),
        ({"output": "b", "format": ["gif", "apng"]}, {"output": "b.png"}),
    ],
)
def test_one_file_of_two_clips_is_refused(checked, one, other):
    jobs, refused = checked({**one, "seed": 1}, {**other, "seed": 2}, {"seed": 3})
    assert ([job.number for job in jobs], refused) == ([1, 3], [(2, "AD-M26")])


@pytest.mark.parametrize("name", ["contact-sheet.png", "Contact-Sheet.gif", "contact-sheet-2-of-8.png"])
def test_a_file_of_the_run_itself_is_refused(checked, name):
    assert checked({"output": name}) == ([], [(1, "AD-M36")])


def test_names_of_the_run_in_other_folders_and_of_prompts_are_free(checked):
    frames = {"format": "frames", "output": "index.html"}
    jobs, refused = checked({"output": "sub/contact-sheet.png"}, {"prompt": "contact sheet"}, frames)
    assert (len(jobs), refused) == (2, [(3, "AD-M36")])
    assert checked({"format": ["gif", "txt"], "output": FILE}) == ([], [(1, "AD-M36")])


@pytest.mark.parametrize("name", ["../x.png", "/x.png", "a/../../x.png", "..\\x.png", "C:\\x.png", "\\x.png"])
def test_an_output_outside_the_folder_is_refused(checked, name):
    assert checked({"output": name}) == ([], [(1, "AD-M37")])


def test_a_text_alone_is_refused(checked):
    jobs, refused = checked({"format": "txt"}, {"format": ["TXT", "txt"]}, {"output": "a.txt", "format": []})
    assert not jobs
    assert refused == [(1, "AD-M38"), (2, "AD-M38"), (3, "AD-M14")]
    assert not checked({"format": ["txt", "gif"]})[1]


def test_a_value_that_is_added_to_a_row_leaves_the_other_names(checked, tmp_path):
    row = {"prompt": "a {red|blue} disc", "output": "x/y.png"}
    before, after = (set(outputs(checked({**row, "seed": seeds})[0], tmp_path)) for seeds in ([2, 5], [1, 2, 3, 5]))
    assert before < after
    assert len(after) == 8
    assert all(name.startswith("x/y-") for name in after)
    assert outputs(checked({"output": "x/y.png", "seed": [7]})[0], tmp_path) == ["x/y.png"]


@pytest.mark.parametrize("count", [2, 3])
def test_shards_are_all_clips_each_once_with_the_seeds_of_the_whole(checked, count):
    rows = [{"seed": -1}] * 4 + [{"seed": [-1, 3]}, {"seed": -1, "cfg": 2}]
    whole, _ = checked(*rows)
    parts = [job for number in range(count) for job in checked(*rows, shard=(number + 1, count))[0]]
    assert len({job.id for job in whole}) == 7
    assert sorted(job.id for job in parts) == sorted(job.id for job in whole)
    assert sorted(job.number for job in parts) == list(range(1, 8))


def test_one_file_of_two_clips_is_refused_in_another_shard_too(checked):
    rows = [{"seed": 1, "output": "b.png"}, {"seed": 2, "output": "B.png"}]
    one, other = (checked(*rows, shard=(number, 2)) for number in (1, 2))
    assert ([job.number for job in one[0]], one[1]) == ([1], [])
    assert other == ([], [(2, "AD-M26")])


@pytest.mark.parametrize("wrong", ["0/2", "3/2", "2", "1/0", "a/b"])
def test_what_is_no_shard_is_refused(run_early, tmp_path, wrong):
    assert run_early("render", tmp_path / "a.json", "--shard", wrong).code == 2


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("promt", "Did you mean prompt?"),
        ("device", "--devices"),
        ("contact-sheet", "for all clips"),
        ("camera-drawing", "with animate"),
        ("json", "--json"),
        ("colour", "Use the options of animate"),
    ],
)
def test_a_field_that_does_not_exist_is_refused_with_advice(name, advice):
    with pytest.raises(ManifestError, match="AD-M24") as refused:
        fields.named({name: 1})
    assert advice in refused.value.message


def test_a_check_writes_its_failures_and_no_random_seed(run_early, tmp_path, monkeypatch):
    monkeypatch.setattr(render_run, "_MOST_SAID", 1)
    path, folder = tmp_path / "shots.json", tmp_path / "shots"
    path.write_text(json.dumps([{**SMALL, "seed": -1}, {"sampler": "x"}, {"steps": 0}]))
    ended = run_early("render", path, "--check", "--json", "--shard", "1/1")
    failed = folder / "failed.jsonl"
    assert ended.code == 3
    assert json.loads(ended.out) == {"valid": 1, "failed": 2, "folder": str(folder), "files": [str(failed)]}
    assert [json.loads(line)["clip"] for line in failed.read_text().splitlines()] == [2, 3]
    assert [entry.name for entry in folder.iterdir()] == ["failed.jsonl"]
    assert str(failed) in ended.err
    of_shard = run_early("render", path, "--check", "--shard", "2/3")
    assert (of_shard.code, of_shard.out) == (4, f"{folder / 'failed-2-of-3.jsonl'}\n")
    path.write_text(json.dumps(SMALL))
    ended = run_early("render", path, "--check")
    assert (ended.code, ended.out, list(folder.glob("failed.jsonl"))) == (0, "", [])


def test_a_model_that_is_replaced_is_loaded_again_and_a_clip_of_the_old_one_is_refused(tmp_path):
    """As beside a running `watch`: the size stays the same, and the name."""
    files = tmp_path / "models"
    shutil.copytree(POCKET.folder, files)
    checkpoint, motion = files / POCKET.checkpoint, files / POCKET.motion
    row = {**SMALL, "checkpoint": str(checkpoint), "motion": str(motion), "sampler": "ddim"}
    path, renderer = tmp_path / "a.json", Renderer(tmp_path, "cpu")

    def rendered(name):
        path.write_text(json.dumps({**row, "output": name}))
        rows = clips.rows_of(read_manifest(path), {})
        (job,) = clips.checked(rows, tmp_path, "cpu", lambda _row, error: pytest.fail(str(error)), lambda _: False)
        outcome = renderer(job)
        assert outcome.kind == "rendered", outcome
        frames = pixels([frame.image for frame in read_clip(tmp_path / name)])
        return job, frames, read_recipe(tmp_path / name).data["files"]

    job, first, before = rendered("1.png")
    for changed, entry in ((checkpoint, "checkpoint"), (motion, "motion")):
        other = tmp_path / "other"
        other.write_bytes(changed.read_bytes()[:-20_000] + bytes(20_000))
        other.replace(changed)
        _, frames, after = rendered(f"{entry}.png")
        assert before[entry]["sha256"] != after[entry]["sha256"]
        assert not (frames == first).all()
        first, before = frames, after
    outcome = renderer(replace(job, output=str(tmp_path / "2.png")))
    assert (outcome.kind, outcome.code) == ("failed", "AD-M39")
    renderer.close()


def test_processes_that_have_ended_are_not_kept_for_the_next_manifest(tmp_path, checked):
    class Broken:
        closed = 0

        def is_finished(self, _job):
            return False

        def outcomes(self, _queue):
            raise StoppedError("No worker.", code="AD-M30")
            yield

        def close(self):
            self.closed += 1

    crew = Broken()
    run = render_run.Run([], tmp_path, crew, Results(tmp_path, "a"))
    assert run.render(checked({})[0], as_json=False) == 4
    assert (run.stopped.code, crew.closed) == ("AD-M30", 1)


def test_a_watched_manifest_whose_run_ended_early_is_tried_again_after_a_pause(run, tmp_path, monkeypatch):
    inbox, looks, written = tmp_path / "inbox", [], []
    inbox.mkdir()
    (inbox / "one.json").write_text(json.dumps([{**SMALL, "output": "a.png"}, {"sampler": "x"}]))

    def write(path, *words, **more):
        written.append(path)
        if len(written) == 1:
            raise ClipNotWrittenError("...", frames_at=None) from OSError(errno.ENOSPC, "No space left on device")
        return write_clip(path, *words, **more)

    def look(seconds):
        looks.append((now[0], (inbox / "clips" / "a.png").exists()))
        now[0] += seconds
        if len(looks) == 60:
            raise KeyboardInterrupt

    now = [0.0]
    monkeypatch.setattr(asked, "write_clip", write)
    monkeypatch.setattr(watching.time, "sleep", look)
    monkeypatch.setattr(command, "Watched", lambda folder: watching.Watched(folder, lambda: now[0]))
    assert run("watch", inbox).code == 130
    assert len(written) == 2
    assert next(when for when, there in looks if there) == pytest.approx(watching.RETRY, abs=2 * watching.LOOK)


def test_a_page_shows_the_first_frame_of_a_folder(run, tmp_path):
    path, folder = tmp_path / "shots.json", tmp_path / "shots"
    path.write_text(json.dumps([{**SMALL, "format": ["txt", "frames"], "output": "a"}, {**SMALL, "output": "b.png"}]))
    assert run("render", path).code == 0
    page = (folder / "index.html").read_text()
    first = sorted((folder / "a").glob("*.png"))[0]
    assert f'<img src="a/{first.name}"' in page
    assert '<a href="a">' in page
    assert '<img src="b.png"' in page
