"""The command from end to end on the built-in model: two steps, four frames, two prompts."""

from __future__ import annotations

import base64
import io
import json
import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock, Mock

import numpy as np
import pytest
import torch
from PIL import Image
from support.cli import exit_code
from support.matrix import in_matrix
from support.pocket_clips import read_once

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.cli import main as program
from lib_animatediff.evaluation import run as runner
from lib_animatediff.evaluation.embedders import SmallEmbedder
from lib_animatediff.evaluation.measuring import METRICS
from lib_animatediff.evaluation.methods import METHODS, RENDERED
from lib_animatediff.evaluation.run import REFERENCES
from lib_animatediff.hosts.diffusers import pipeline as host
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.video import read_clip
from motion_module import ClipError

FRAMES, PROMPTS, MODELS = 4, ("a red disc moving right", "a <b>blue</b> cross & more"), 2
STILLS = 3  # of a prompt, as references
RENDERS = MODELS * len(PROMPTS) * (1 + len(RENDERED))


def words(folder, **changes):
    prompts = folder / "prompts.txt"
    prompts.write_text(f"{PROMPTS[0]} | right\n{PROMPTS[1]} | still\n", encoding="utf-8")
    given = {"checkpoint": POCKET.name, "output": folder / "page.html", "prompts": prompts}
    given |= {"steps": 2, "frames": FRAMES, "seeds": 1} | changes
    return [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("evaluation")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "REFERENCES", STILLS)
        patch.setattr(runner, "load_motion_module", read_once)
        assert exit_code("evaluate", *words(folder)) == 0
    page = (folder / "page.html").read_text(encoding="utf-8")
    results = json.loads((folder / "page" / "results.json").read_text(encoding="utf-8"))
    return SimpleNamespace(folder=folder, page=page, results=results, tags=tags_of(page))


def tags_of(page):
    found = []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attributes):
            found.append((tag, dict(attributes)))

    reader = Reader()
    reader.feed(page)
    reader.close()
    return found


def test_the_page_needs_nothing_beside_it(made):
    for _, attributes in made.tags:
        for name in ("src", "href", "srcset", "data", "poster"):
            assert (attributes.get(name) or "data:").startswith("data:")
    assert not re.search(r"https?:|@import|url\(", made.page)
    assert not [tag for tag, _ in made.tags if tag in ("script", "link", "iframe")]


def test_the_page_shows_every_clip_and_the_results_hold_it(made):
    shown = [attributes["alt"] for tag, attributes in made.tags if tag == "img"]
    assert len(shown) == len(set(shown)) * MODELS == MODELS * len(PROMPTS) * len(METHODS)
    for clip in made.results["clips"]:
        title = next(method.title for method in METHODS if method.key == clip["method"])
        assert f"{clip['prompt']}, seed {clip['seed']}, {title}" in shown
    assert len(made.results["clips"]) == len(shown)
    assert [len(methods) for methods in made.results["means"].values()] == [len(METHODS)] * MODELS
    assert {clip["heading"] for clip in made.results["clips"]} == {"right", "still"}


def test_clips_on_the_page_move_and_those_for_calm_readers_do_not(made):
    def counts_of(tag, attribute):
        data = [attributes[attribute] for name, attributes in made.tags if name == tag]
        pictures = [Image.open(io.BytesIO(base64.b64decode(each.partition(";base64,")[2]))) for each in data]
        return [getattr(picture, "n_frames", 1) for picture in pictures]

    counts = counts_of("img", "src")
    for number, method in enumerate(METHODS):
        own = counts[number :: len(METHODS)]
        if method.key != "text2video-zero":  # which stands for a while: two frames that are the same are one there
            assert own == [1 if method.key == "frozen" else FRAMES] * MODELS * len(PROMPTS)
    assert set(counts_of("source", "srcset")) == {1}


def test_a_grid_of_clips_plays(made):
    with Image.open(made.folder / "page" / "clips.webp") as picture:
        assert picture.n_frames == FRAMES
        first = np.asarray(picture.convert("RGB"))
        picture.seek(FRAMES - 1)
        changes = np.abs(np.asarray(picture.convert("RGB")).astype(int) - first).max(axis=(1, 2)) > 60
    rows = np.split(changes[62:], len(METHODS))
    assert [row.any() for row in rows][:2] == [False, True]


def test_every_metric_that_was_measured_is_explained(made):
    measured = {key for clip in made.results["clips"] for key, value in clip.items() if value is not None}
    for metric in METRICS:
        assert (f"<dt>{metric.title}</dt>" in made.page) == (metric.key in measured - {"background_consistency"})


def test_the_docs_page_names_every_figure_and_every_option():
    text = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^|]+) \|", text.partition("## Metrics")[2], re.MULTILINE)
    for metric in METRICS:
        assert any(row == metric.title or metric.title in row.split(", ") for row in rows), metric.title
    told = set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", text))
    assert not told - {name for option in program.evaluate.params for name in option.opts}


def test_the_page_says_how_it_was_made_and_what_is_missing_and_shows_prompts_as_text(made):
    command = re.search(r"<code>(.*?)</code>", made.page)[1]
    assert command.startswith("python -m lib_animatediff evaluate ")
    assert "--steps 2" in command
    assert "--prompts prompts.txt" in command
    assert str(made.folder) not in made.page
    assert "no weights" in made.page
    for library in ("torch 2", "diffusers 0", "opencv"):
        assert library in made.page
    assert "Add one with --tuned." in made.page
    assert "0.19 cells per frame" in made.page
    assert "a &lt;b&gt;blue&lt;/b&gt; cross &amp; more" in made.page
    assert "<b>blue" not in made.page


def test_controls_are_marked_and_never_best(made):
    rows = re.findall(r"<tr( class=\"control\")?><th scope=\"row\">(.*?)</th>(.*?)</tr>", made.page, re.S)
    assert {row[1] for row in rows if row[0]} == {"Frozen frame (control)", "Independent frames (control)"}
    assert not [title for control, title, cells in rows if control and "best" in cells]
    assert [title for control, title, cells in rows if not control and "best" in cells]


def clip_frames(made, model, method, number=0):
    found = [clip for clip in made.results["clips"] if clip["method"] == method and model in clip["model"]]
    return np.stack([frame.array() for frame in read_clip(made.folder / "page" / found[number]["file"])])


def test_each_method_is_what_it_is_called(made):
    pipeline = host.load_pipeline(POCKET.folder / POCKET.checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    plain = {"prompt": PROMPTS[0], "size": (64, 64), "steps": 2, "cfg": 3.0, "frames": FRAMES}
    motion = runner.load_motion_module(POCKET.folder / POCKET.motion)
    expected = np.stack([np.asarray(picture) for picture in animate(pipeline, motion, **plain)])
    found = {method.key: clip_frames(made, "base model", method.key) for method in RENDERED}
    assert np.abs(found["module"].astype(int) - expected).max() <= 1
    for one, other in (("module", "independent"), ("module", "text2video-zero"), ("independent", "text2video-zero")):
        assert np.abs(found[one].astype(int) - found[other]).mean() > 1
    style = clip_frames(made, "(LoRA)", "independent")
    assert np.abs(style.astype(int) - found["independent"]).mean() > 1


def test_a_frozen_frame_is_smooth_and_does_not_move(made):
    frozen = [clip for clip in made.results["clips"] if clip["method"] == "frozen"]
    assert {round(clip["smoothness"], 3) for clip in frozen} == {100.0}
    assert {clip["motion_top"] for clip in frozen} == {0.0}
    assert {clip["seconds"] for clip in frozen} == {None}


def test_references_are_stills_of_other_seeds(made):
    (file,) = (made.folder / "page" / "clips").glob("*base model*/references/00.png")
    stills = np.stack([frame.array() for frame in read_clip(file)])
    assert len(stills) == STILLS
    rows = {picture.tobytes() for picture in (*stills, *clip_frames(made, "base model", "independent"))}
    assert len(rows) == STILLS + FRAMES


@pytest.fixture
def renders(monkeypatch):
    """What is rendered, in turn; and after how many it fails."""
    count = SimpleNamespace(made=0, until=10_000)
    frames = np.random.default_rng(0).integers(0, 256, (REFERENCES, 64, 64, 3)).astype(np.uint8)

    def render(size):
        if count.made == count.until:
            raise KeyboardInterrupt
        count.made += 1
        return frames[:size]

    monkeypatch.setattr(runner, "stills", lambda _p, text, seeds, _h: render(len(seeds)) if text else None)
    monkeypatch.setattr(runner, "render", lambda *_: render(FRAMES))
    monkeypatch.setattr(runner.host, "load_pipeline", lambda *_a, **_k: MagicMock())
    monkeypatch.setattr(runner.networks, "add_loras", lambda *_: None)
    # Measuring is what takes long; the rest is as it is.
    monkeypatch.setattr(SmallEmbedder, "images", lambda _self, frames: torch.ones(len(frames), 1))
    figures = {metric.key: 1.0 for metric in METRICS}
    monkeypatch.setattr(runner, "measure", lambda _f, _p, _r, _e, seconds: (figures | {"seconds": seconds}, "right"))
    return count


def test_interrupted_it_goes_on_where_it_stopped(renders, command, tmp_path):
    renders.until, first = 5, None
    ended = command("evaluate", *words(tmp_path))
    assert ended.code == 130
    assert "The same command continues." in ended.err
    assert not (tmp_path / "page.html").exists()
    renders.until = 10_000
    for _ in range(2):  # what was made is not made again
        assert command("evaluate", *words(tmp_path)).code == 0
        assert renders.made == RENDERS
        first = first or (tmp_path / "page" / "results.json").read_bytes()
    assert (tmp_path / "page" / "results.json").read_bytes() == first


@pytest.mark.parametrize("change", [{"steps": 3}, in_matrix({"cfg": 4}), {"seed": 1}, in_matrix({"sampler": "euler"})])
def test_another_request_is_made_anew(renders, command, tmp_path, change):
    assert command("evaluate", *words(tmp_path)).code == 0
    assert command("evaluate", *words(tmp_path, **change)).code == 0
    assert renders.made == 2 * RENDERS


def test_a_damaged_clip_is_made_again(renders, command, tmp_path):
    assert command("evaluate", *words(tmp_path)).code == 0
    broken = next((tmp_path / "page" / "clips").rglob("*.png"))
    broken.write_bytes(broken.read_bytes()[:300])
    assert command("evaluate", *words(tmp_path)).code == 0
    assert renders.made == RENDERS + 1


def test_an_error_on_the_way_keeps_what_there_is(renders, command, monkeypatch, tmp_path):
    monkeypatch.setattr(runner, "render", Mock(side_effect=ClipError("No memory is left. Buy some.")))
    ended = command("evaluate", *words(tmp_path))
    assert (ended.code, ended.err.splitlines()[-1]) == (1, "Error: No memory is left. Buy some.")
    assert len(list((tmp_path / "page" / "clips").rglob("*.png"))) == 1  # the references


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"output": "page.pdf"}, "Choose a name that ends in .html."),
        ({"seeds": 0}, "seeds must be at least 1, not 0."),
        ({"frames": 2}, "frames must be at least 3, not 2."),
        ({"frames": 99}, "99"),
        ({"width": 60}, "width must be a multiple of 8"),
        ({"steps": 0}, "steps must be between 1"),
        ({"seed": SEED_LIMIT - 5}, "is too large"),
        ({"prompts": "missing.txt"}, "missing.txt cannot be read as text"),
        ({"lora": "missing.safetensors"}, "There is no file missing.safetensors."),
        ({"tuned": "missing.safetensors"}, "There is no checkpoint missing.safetensors."),
        ({"motion": "missing.ckpt"}, "missing.ckpt"),
        ({"embedder": "missing"}, "missing is not the folder of an embedder"),
        ({"checkpoint": "model.safetensors"}, "also give --motion and --prompts"),
    ],
)
def test_bad_requests(command, monkeypatch, tmp_path, changes, says):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(host, "load_pipeline", lambda *_a, **_k: pytest.fail("the slow work has begun"))
    ended = command("evaluate", *words(tmp_path, **changes))
    assert ended.code == 1
    assert says in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_bad_places_and_names(command, monkeypatch, tmp_path):
    (tmp_path / "page").write_text("mine")
    assert "Choose another --output" in command("evaluate", *words(tmp_path)).err
    assert (tmp_path / "page").read_text() == "mine"
    (tmp_path / "page").unlink()
    lora = POCKET.folder / POCKET.style_lora
    ended = command("evaluate", *words(tmp_path), "--lora", lora, "--lora", lora)
    assert "Two models have the same name" in ended.err
    monkeypatch.setitem(sys.modules, "cv2", None)
    assert "pip install opencv-python-headless" in command("evaluate", *words(tmp_path)).err
