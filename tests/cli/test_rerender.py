"""`animate --rerender`: some frames of a finished clip again, all others with the same pixels."""

from __future__ import annotations

import json

import pytest
from support.source_files import shades

from lib_animatediff.jobs import recipe as request
from lib_animatediff.video import read_clip, read_recipe, write_clip

FRAMES, AGAIN = 8, range(3, 6)


@pytest.fixture(autouse=True)
def loaded(pipeline, monkeypatch):
    monkeypatch.setattr(request.host, "load_pipeline", lambda *_args, **_kwargs: pipeline)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("clips")


@pytest.fixture
def finished(run, folder):
    """A clip of eight frames, without loss."""
    path = folder / "finished.png"
    if not path.exists():
        words = ("--prompt", "a red disc moving right", "--frames", FRAMES, "--steps", 4, "--seed", 3, "--fps", 10)
        done = run("animate", *words, "--cfg", 1, "--output", path)
        assert done.code == 0, done.err
    return path


def frames_of(path):
    return [frame.image.convert("RGB").tobytes() for frame in read_clip(path)]


@pytest.mark.parametrize("strength", [1, 0.6])
def test_other_frames_have_the_same_pixels_and_the_recipe_goes_on(run, tmp_path, finished, strength):
    clip = tmp_path / "clip.png"
    words = ("--rerender-frames", f"{AGAIN[0]}-{AGAIN[-1]}", "--rerender-strength", strength)
    done = run("animate", "--rerender", finished, *words, "--prompt", "a blue disc", "--output", clip, "--json")
    assert done.code == 0, done.err
    made, before = frames_of(clip), frames_of(finished)
    assert [frame for frame in range(FRAMES) if made[frame] != before[frame]] == list(AGAIN)
    data, former = read_recipe(clip).data, read_recipe(finished).data
    assert (data["prompt"], data["seed"]) == ("a blue disc", former["seed"] + FRAMES)
    assert (data["steps"], data["cfg"], data["size"]) == (former["steps"], former["cfg"], former["size"])
    assert data["files"]["pins"]["keeps_pixels"]
    strengths = data["files"]["video"]["denoise"]
    assert strengths[3:6] == [min(each, strength) for each in (0.5, 0.7, 0.5)]
    assert 'Pinned frames: "0-2: finished.png, 6-7: finished.png"' in read_recipe(clip).infotext
    said = json.loads(done.out)
    assert said["fps"] == 10
    assert said["seam"] > 0
    again = run("reproduce", clip, "--models", finished.parent)
    assert again.out.startswith("Reproduced: frame 3 is identical"), again.err


def test_a_clip_of_another_program_gives_frames_rate_and_size(run, tmp_path):
    source, clip = tmp_path / "own.png", tmp_path / "clip.png"
    write_clip(source, shades(5, (48, 32)), formats=["apng"], fps=12)
    words = ("--rerender-frames", "0,2", "--steps", 1, "--prompt", "a disc")
    done = run("animate", "--rerender", source, *words, "--output", clip, "--json")
    assert done.code == 0, done.err
    said = json.loads(done.out)
    assert (said["frames"], said["fps"], said["size"]) == (5, 12, [48, 32])
    made, before = frames_of(clip), frames_of(source)
    assert [frame for frame in range(5) if made[frame] != before[frame]] == [0, 2]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--rerender-frames", "3-9"), "AD-S31"),
        (("--rerender-frames", "0-7"), "AD-S32"),
        (("--rerender-frames", "5-3"), "AD-S34"),
        ((), "AD-S30"),
        (("--rerender-frames", "3", "--width", 32), "AD-S36"),
        (("--rerender-frames", "3", "--frames", 9), "AD-K41"),
        (("--rerender-frames", "3", "--image", "a.png"), "AD-K40"),
        (("--rerender-frames", "3", "--rerender-strength", 2), "AD-K42"),
    ],
)
def test_what_does_not_fit_is_refused(run, tmp_path, finished, words, code):
    assert code in run("animate", "--rerender", finished, *words, "--output", tmp_path / "a.png").one_error


def test_other_clips_are_refused(run, tmp_path, finished):
    reversed_clip = tmp_path / "reversed.png"
    words = ("--frames", 3, "--steps", 1, "--reverse", "--prompt", "a disc")
    assert run("animate", *words, "--output", reversed_clip).code == 0
    again = ("--rerender-frames", 1, "--output", tmp_path / "b.png")
    assert "AD-S35" in run("animate", "--rerender", reversed_clip, *again).one_error
    odd = tmp_path / "odd.png"
    write_clip(odd, shades(3, (33, 32)), formats=["apng"], fps=8)
    assert "AD-S33" in run("animate", "--rerender", odd, *again).one_error
    assert "AD-K39" in run("animate", *again).one_error
