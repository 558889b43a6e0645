"""What a recipe holds of the files that determine a clip, and how often they are read."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.cli.asked import AskedClip
from lib_animatediff.jobs import recipe
from lib_animatediff.jobs.many.finished import job_id
from lib_animatediff.request import output
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.video import hashing, rife_file


def request(**settings):
    return recipe.Request(
        POCKET.folder / POCKET.checkpoint, POCKET.folder / POCKET.motion, "a", parse_settings({"frames": 2, **settings})
    )


def data(**settings):
    return recipe.recipe_of(request(**settings), {}).data


@pytest.mark.parametrize("name", ["auto", "rife"])
def test_a_clip_with_added_frames_names_the_rife_that_may_make_them(tmp_path, monkeypatch, name):
    weights = tmp_path / "flownet.pkl"
    weights.write_bytes(b"one")
    for module in (recipe, output, rife_file):
        monkeypatch.setattr(module, "packaged_weights", lambda: weights)
    settings = {"fps": 4, "interpolate": "x2", "interpolator": name}
    first = data(**settings)
    assert first["files"]["installed_rife"] == {"name": "flownet.pkl", "sha256": hashlib.sha256(b"one").hexdigest()}
    weights.write_bytes(b"other")
    second = data(**settings)
    monkeypatch.setattr(recipe, "packaged_weights", lambda: None)
    third = data(**settings)
    assert third["files"]["installed_rife"] is None
    assert len({job_id(each) for each in (first, second, third)}) == 3
    assert recipe.request_of(first, lambda name, _: POCKET.folder / name).settings.interpolator == name
    # Without added frames, or with another interpolator, nothing depends on them.
    for other in ({**settings, "interpolate": "off"}, {**settings, "interpolator": "dis"}):
        assert "installed_rife" not in data(**other)["files"]


@pytest.mark.parametrize("name", ["", "*.png"])
def test_the_hash_of_many_files_is_kept_until_one_changes(tmp_path, monkeypatch, name):
    folder = tmp_path / "images"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(b"%d" % number)
    place = folder / name if name else folder
    opened = []
    read = Path.open
    monkeypatch.setattr(
        Path, "open", lambda path, *words, **more: opened.append(path.name) or read(path, *words, **more)
    )
    assert hashing.file_hash(place) == hashing.file_hash(place) == hashlib.sha256(b"012").hexdigest()
    assert [file for file in opened if file != "new"] == ["0.png", "1.png", "2.png"]
    (folder / "new").write_bytes(b"7")
    (folder / "new").replace(folder / "1.png")
    assert hashing.file_hash(place) == hashlib.sha256(b"072").hexdigest()
    (folder / "2.png").unlink()
    assert hashing.file_hash(place) == hashlib.sha256(b"07").hexdigest()


def test_the_recipe_of_a_clip_is_made_once():
    clip = AskedClip(request(), Path("a.gif"))
    assert clip.recipe is clip.recipe
