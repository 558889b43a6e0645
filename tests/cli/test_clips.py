"""`info` says what made a clip, and `reproduce` makes it again: with the small built-in model, whole."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image
from support.cli import exit_code
from support.clip_files import INFOTEXT, RECIPE, moving_bar
from support.matrix import only_at
from support.motion_files import write_motion_file
from support.tiny_decoder import write_tiny_decoder

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.cli import clips as clips_cli
from lib_animatediff.jobs import recipe as request
from lib_animatediff.request.settings import from_infotext
from lib_animatediff.video import ping_pong, read_clip, read_recipe, write_clip

FORMATS = ["gif", "webp", "apng", "mp4", "webm", "frames", "txt"]
LOSSLESS = ["clip.png", "clip"]


@pytest.fixture(scope="module")
def clips(tmp_path_factory, pipeline):
    folder = tmp_path_factory.mktemp("clips")
    chosen = [word for key in FORMATS for word in ("--format", key)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pipeline)
        words = ["--steps", "2", "--frames", "3", "--seed", "4", "--width", "96", "--reverse", *chosen]
        assert exit_code("animate", "--checkpoint", "pocket", *words, "--output", folder / "clip") == 0
    return folder


def test_animate_writes_each_format_with_the_same_recipe(clips):
    names = ["clip", "clip.gif", "clip.mp4", "clip.png", "clip.txt", "clip.webm", "clip.webp"]
    assert sorted(path.name for path in clips.iterdir()) == names
    assert [len(list(read_clip(clips / name))) for name in names if name != "clip.txt"] == [4] * 6
    recipes = [read_recipe(path) for path in clips.iterdir() if path.suffix != ".txt"]
    assert all(recipe == recipes[0] for recipe in recipes)
    assert read_recipe(clips / "clip.txt").infotext == recipes[0].infotext
    data = recipes[0].data
    assert (data["seed"], data["steps"], data["size"]) == (4, 2, [96, 64])
    assert data["files"]["checkpoint"]["name"] == POCKET.checkpoint
    assert len(data["files"]["checkpoint"]["sha256"]) == 64
    assert data["versions"]["torch"]


def test_the_infotext_is_the_webuis_and_no_path_of_this_machine_is_told(clips):
    text = read_recipe(clips / "clip.gif").infotext
    prompt, fields = text.split("\n")
    assert prompt == POCKET.prompt
    assert fields.startswith("Steps: 2, Sampler: DDIM, CFG scale: 3.0, Seed: 4, Size: 96x64, Model hash: ")
    ours = from_infotext(json.loads(fields.split("AnimateDiff: ")[1].split(", Version: ")[0]))
    assert (ours["enable"], ours["model"], ours["frames"], ours["reverse"]) == (True, POCKET.motion, 3, True)
    told = (clips / "clip.gif").read_bytes()
    assert str(POCKET.folder).encode() not in told
    assert str(clips).encode() not in told


@pytest.mark.parametrize(
    "name", only_at(["clip", "clip.gif", "clip.mp4", "clip.png", "clip.webm", "clip.webp"], 1, 2, 3)
)
def test_each_is_reproduced(clips, run, name):
    done = run("reproduce", clips / name)
    assert done.code == 0, done.err
    assert done.out.startswith("Reproduced: frame 0 is " + ("identical." if name in LOSSLESS else "the same, with "))


def test_a_tiny_decoder_is_in_the_recipe_and_needed_to_reproduce_the_clip(run, tmp_path, pipeline, monkeypatch):
    monkeypatch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pipeline)
    decoder, clip = write_tiny_decoder(tmp_path / "taesd_decoder.safetensors"), tmp_path / "clip.png"
    words = ("animate", "--checkpoint", "pocket", "--steps", "1", "--frames", "2")
    assert run(*words, "--output", clip, "--decoder", decoder).code == 0
    assert run(*words, "--output", tmp_path / "vae.png").code == 0
    assert read_recipe(clip).data["files"]["decoder"]["name"] == decoder.name
    assert "decoder" not in read_recipe(tmp_path / "vae.png").data["files"]
    assert next(read_clip(clip)).image.tobytes() != next(read_clip(tmp_path / "vae.png")).image.tobytes()
    assert run("reproduce", clip, "--models", tmp_path).out.startswith("Reproduced: frame 0 is identical")
    assert "which was not found" in run("reproduce", clip).err


def test_another_picture_is_no_reproduction(clips, run, tmp_path):
    recipe = read_recipe(clips / "clip.png")
    frames = [frame.image for frame in read_clip(clips / "clip.png")]
    frames[0].putpixel((5, 5), (0, 255, 0))
    write_clip(tmp_path / "a", frames, formats=["apng", "gif"], fps=8, recipe=recipe)
    done = run("reproduce", tmp_path / "a.png")
    assert done.code == 1
    assert "identical expected" in done.err
    assert run("reproduce", tmp_path / "a.gif").code == 0
    write_clip(tmp_path / "b.gif", moving_bar(3, (96, 64)), fps=8, recipe=recipe)
    done = run("reproduce", tmp_path / "b.gif")
    assert done.code == 1
    assert "at least 25 dB expected" in done.err
    assert "torch" in done.err


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda data: data.update(program="webui"), "not written by this command line"),
        (lambda data: data.pop("seed"), "damaged: seed is None"),
        (lambda data: data.update(seed="4"), "damaged: seed is '4'"),
        (lambda data: data.update(seed=True), "damaged: seed is True"),
        (lambda data: data.update(size=[64]), "damaged: size"),
        (lambda data: data.update(size=[64, 1.5]), "damaged: size"),
        (lambda data: data.update(steps=0), "steps must be between"),
        (lambda data: data.update(cfg=None), "damaged: cfg"),
        (lambda data: data.update(sampler="x"), "no sampler 'x'"),
        (lambda data: data["settings"].update(frames=-1), "frames must be"),
        (lambda data: data["settings"].update(surprise=1), "no setting 'surprise'"),
        (lambda data: data["files"].update(checkpoint="a"), "damaged: files"),
        (lambda data: data["files"]["motion"].update(name="other.ckpt"), "made with other.ckpt"),
        (lambda data: data["files"]["motion"].update(sha256="0" * 64), "is not the file"),
        (lambda data: data["files"]["motion"].update(name="../../etc/passwd"), "made with passwd"),
        (lambda data: data["files"]["motion"].update(name=".."), "which was not found"),
        (lambda data: data["files"].update(loras=[{"name": "a", "sha256": "0", "strength": "1"}]), "made with a "),
    ],
)
def test_a_recipe_from_a_stranger_is_checked(clips, run, tmp_path, monkeypatch, change, words):
    monkeypatch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pytest.fail("the slow work has begun"))
    recipe = read_recipe(clips / "clip.png")
    data = json.loads(json.dumps(recipe.data))
    change(data)
    (path,) = write_clip(tmp_path / "a.png", moving_bar(2, (64, 64)), recipe=type(recipe)("", data))
    done = run("reproduce", path)
    assert done.code == 1
    assert done.out == ""
    assert words in done.err.splitlines()[-1]


def test_files_are_found_by_name_and_hash(clips, tmp_path):
    find = clips_cli._finder([tmp_path])
    path = write_motion_file(tmp_path / "deep")
    digest = request.file_hash(path)
    assert find(path.name, digest) == path
    shutil.copytree(path.parent, tmp_path / "another")
    (tmp_path / "another" / path.name).write_bytes(b"changed")
    assert find(path.name, digest) == path


def test_info_prints_the_text_and_the_data_and_names_several_files(clips, run):
    done = run("info", clips / "clip.mp4")
    assert done.code == 0
    recipe = read_recipe(clips / "clip.mp4")
    assert done.out.startswith(recipe.infotext + "\n{")
    assert json.loads(done.out[len(recipe.infotext) :]) == recipe.data
    done = run("info", clips / "clip.gif", clips / "clip.txt")
    assert done.out.splitlines()[0] == f"{clips / 'clip.gif'}:"
    assert f"{clips / 'clip.txt'}:\n{POCKET.prompt}" in done.out


def test_info_as_json(run, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "plain.png")
    (path,) = write_clip(tmp_path / "a.webm", moving_bar(2), fps=23.976, loop_count=2, recipe=RECIPE)
    done = run("info", "--json", path, tmp_path / "plain.png")
    ours, nothing = json.loads(done.out)
    assert ours == {
        "file": str(path),
        "infotext": INFOTEXT,
        "settings": {"model": "mm.ckpt", "fps": 8.0},
        "fps": "24000/1001",
        "loop_count": 2,
        "data": RECIPE.data,
    }
    assert (nothing["infotext"], nothing["settings"], nothing["data"]) == ("", None, None)
    assert "contains no parameters" in run("info", tmp_path / "plain.png").out


@pytest.mark.parametrize(
    ("text", "settings"),
    [
        ('a\nSteps: 1, AnimateDiff: "model: a.ckpt, fps: 12", Seed: 1', {"model": "a.ckpt", "fps": 12.0}),
        ("a\nSteps: 1, AnimateDiff: fps: 12", {"fps": 12.0}),
        ('AnimateDiff: not this, a cat\nSteps: 1, AnimateDiff: "video_length: 24"', {"frames": 24}),
        ('a\nSteps: 1, AnimateDiff: "broken \\q"', None),
        ("a\nSteps: 1", None),
    ],
)
def test_settings_of_either_extension_are_found(text, settings):
    assert clips_cli._settings(text) == settings


def test_reproduce_refuses_what_holds_no_recipe(clips, run):
    done = run("reproduce", clips / "clip.txt")
    assert done.code == 1
    assert "contains no recipe that can be rendered" in done.err


def test_there_and_back_keeps_the_first_frame_first():
    assert [ping_pong([1, 2, 3][:count]) for count in (1, 2, 3)] == [[1], [1, 2], [1, 2, 3, 2]]
