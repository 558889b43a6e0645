"""Files of requests: what is stored as an upload, what may be read, and what the infotext calls it."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image
from support.webui_double import double
from support.webui_double.double import CLIP, SIDE, shared
from support.webui_double.images_in import ALONE, FRAMES, IMG2IMG, PINNED, frames_of, sent

from lib_animatediff import ClipError
from lib_animatediff.video import read_recipe, write_clip
from lib_animatediff.video.hashing import file_hash


def test_base64_is_stored_by_its_hash_and_makes_the_same_clip(webui, images, uploads):
    wanted = frames_of(webui, ALONE)
    for text in (sent(images["a"]), f"data:image/png;base64,{sent(images['a'])}"):
        assert torch.equal(frames_of(webui, {**ALONE, "image": text}), wanted)
    (kept,) = uploads.iterdir()
    keys = f"0: data:image/png;base64,{sent(images['a'])}, 3: in/b.png"
    assert torch.equal(frames_of(webui, {**ALONE, "image": "", "last_image": "", "key_images": keys}), wanted)
    processed = webui.paint({**ALONE, "image": sent(images["a"])})
    assert f"image: animatediff/{kept.name}" in processed.infotexts[0]
    assert torch.equal(frames_of(webui, {**ALONE, "image": f"animatediff/{kept.name}"}), wanted)


def test_infotext_and_recipe_have_names_and_hashes(webui, images):
    webui.paint({**PINNED, "format": ["GIF"]})
    (made,) = webui.outputs.rglob("*.gif")
    recipe = read_recipe(made)
    digests = [file_hash(webui.outputs.parent / "in" / f"{name}.png") for name in "ab"]
    assert 'Pinned frames: "0: a.png, 3: b.png"' in recipe.infotext
    assert f'Pinned frames hashes: "a.png: {digests[0][:10]}, b.png: {digests[1][:10]}"' in recipe.infotext
    assert "image: in/a.png" in recipe.infotext
    entries = [{"frame": 0, "index": 0, "name": "a.png", "sha256": digests[0]}]
    entries.append({"frame": 3, "index": 0, "name": "b.png", "sha256": digests[1]})
    assert recipe.data["pins"] == {"frames": entries, "strength": 1.0, "inversion": 0.7, "fit": "crop"}
    assert str(webui.outputs.parent) not in json.dumps(recipe.data)


def test_a_video_may_be_sent(webui, images):
    path = webui.outputs.parent / "sent.gif"
    write_clip(path, [Image.new("RGB", (SIDE, SIDE), (n, 0, 0)) for n in (10, 20, 30)], fps=5)
    coded = base64.b64encode(path.read_bytes()).decode("ascii")
    webui.paint({"model": "mm", "video_source": f"data:image/gif;base64,{coded}"})
    assert shared.samplings[-1].rows == 3


def test_the_oldest_files_make_room_but_for_recent_and_foreign_ones(webui, images, uploads, monkeypatch):
    module = webui.module("catalog.uploads")
    first = Path(module.kept_image(images["a"]))
    (uploads / "notes.txt").write_text("not ours")
    (uploads / "folder").mkdir()
    monkeypatch.setattr(module, "KEPT_BYTES", first.stat().st_size)
    with pytest.raises(ClipError, match="files of the last hour"):
        module.kept_image(images["b"])
    os.utime(first, (0, 0))
    second = module.kept_image(images["b"])
    assert sorted(map(str, uploads.iterdir())) == sorted([second, str(uploads / "notes.txt"), str(uploads / "folder")])


def test_nothing_is_stored_or_removed_behind_a_link(webui, images, uploads, tmp_path):
    uploads.symlink_to(tmp_path)
    with pytest.raises(ClipError, match="it is a link"):
        webui.module("catalog.uploads").kept_image(images["a"])


@pytest.mark.parametrize("text", ["data:" + "a" * 10**6, " " * 10**6 + "!", "a+" * 10**6 + "!"])
def test_a_long_text_takes_no_time(webui, text):
    """A pattern that tries every division of it would take hours."""
    assert webui.module("catalog.uploads").with_kept_files({"image": text}) == {"image": text}


def test_more_than_the_limit_is_refused_before_it_is_read(webui, monkeypatch):
    module = webui.module("catalog.uploads")
    monkeypatch.setattr(module, "SENT_IMAGE_BYTES", 3000)
    with pytest.raises(ClipError, match="more than 0 MB"):
        module.with_kept_files({"image": "!" * 5000})


@pytest.mark.parametrize("wrapped", ["\n{}", "{}\n", "  data:image/png;base64,{}"[2:]])
def test_base64_may_have_line_breaks(webui, images, uploads, wrapped):
    kept = webui.module("catalog.uploads").with_kept_files({"image": wrapped.format(sent(images["a"]))})
    assert Path(kept["image"]).parent == uploads


def test_an_init_image_of_any_mode_can_be_pinned(webui, images):
    fields = {**IMG2IMG, "init_images": 2 * [Image.new("CMYK", (SIDE, SIDE), (0, 90, 90, 0))], "batch_size": 2}
    webui.paint({**CLIP, "frames": FRAMES, "pin_init": True}, **fields)
    assert shared.samplings[-1].rows == 2 * FRAMES


@pytest.mark.parametrize("text", ["in/a.png", "/9j/", "GIF8", "a" * 100, "/9j/4AAQ folder/a.jpg", "in/" + "b" * 90])
def test_a_path_is_no_base64(webui, text):
    assert webui.module("catalog.uploads").with_kept_files({"image": text}) == {"image": text}


def test_a_series_of_uploads_is_nobodys(webui, images, uploads):
    """The names of uploads are secret; a folder or a pattern would list them."""
    webui.module("catalog.uploads").kept_image(images["a"])
    for path in ("animatediff", "animatediff/*.png", str(uploads)):
        with pytest.raises(Exception, match="AD-W44"):
            webui.paint({"model": "mm", "video": path, "denoise": 0})


def test_the_infotext_of_a_pattern_finds_it_again(webui, images, monkeypatch):
    find_source = webui.module("catalog.sources").find_source
    path, shown = find_source("in/?.png")
    assert (path.name, shown) == ("?.png", "in/?.png")
    other = webui.outputs.parent / "other"
    (other / "in").mkdir(parents=True)
    folders = [other, webui.outputs.parent]
    monkeypatch.setattr(webui.module("compat.a1111"), "readable_folders", lambda: [*folders, other / "uploads"])
    assert find_source("in/?.png") == (path, "in/?.png")  # the first folder has none
    images["a"].save(other / "in" / "a.png")
    found, shown = find_source(str(webui.outputs.parent / "in" / "a.png"))
    assert shown == found.as_posix()  # in/a.png would be another file


def test_a_later_run_has_no_fields_of_an_earlier_one(webui, images):
    """Cells of an X/Y/Z plot share the dict of fields."""
    fields = {}
    webui.paint(PINNED, extra_generation_params=fields)
    assert "Pinned frames" in fields
    webui.paint({**CLIP, "frames": FRAMES}, extra_generation_params=fields)
    assert not [name for name in fields if name.startswith("Pinned")]


def test_a_preview_starts_as_the_clip_does(webui, images):
    fields = {**IMG2IMG, "denoising_strength": 1}
    given = []
    for clip in ({}, {"preview": True}):
        webui.paint({**ALONE, "image": "", **clip}, **fields)
        given.append(shared.samplings[-1].given)
    assert given == [None, None]


@pytest.mark.parametrize("choice", ["source", "shape"])
def test_the_size_may_be_that_of_the_source(webui, images, choice):
    Image.new("RGB", (100, 52)).save(webui.outputs.parent / "in" / "wide.png")
    p = webui.request({**ALONE, "image": "in/wide.png", "last_image": "", "source_size": choice}, width=64, height=48)
    sizes = []
    sample = p.sample
    p.sample = lambda **given: sizes.append((p.width, p.height)) or sample(**given)
    double.process_images(p)
    assert sizes == [(96, 48) if choice == "source" else (88, 48)]
    assert (p.width, p.height) == (64, 48)
