"""Save and Zip of the gallery keep the whole clip where they can; other pictures are left as they are."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from PIL import Image
from support.webui_double.double import shared

from lib_animatediff.video import Recipe, read_recipe, write_clip


@pytest.fixture
def gallery(webui):
    return webui.module("output.gallery")


@pytest.fixture
def assert_left(gallery):
    """The saved picture stays as it was written."""

    def check(params, mode=None):
        before = Path(params.filename).read_bytes()
        gallery.convert_palette_to_rgb(params)
        assert mode in (None, params.image.mode)
        gallery.save_full_animation(params)
        assert Path(params.filename).read_bytes() == before

    return check


@pytest.fixture
def clip(tmp_path, webui):
    frames = [Image.new("RGB", (8, 8), (level, 0, 0)) for level in (0, 90, 180)]
    (gif,) = write_clip(tmp_path / "a.gif", frames, fps=10, recipe=Recipe("a cat", {"seed": 1}))
    shared.may_be_read.append(str(gif))  # it has been shown
    return {"files": [str(gif)], "fps": 10.0}


def saving(path, clips, *, place=0, **fields):
    """What the WebUI hands on when its Save button is pressed; its picture has been written already."""
    image = Image.new("RGB", (8, 8))
    image.save(path)
    p = SimpleNamespace(extra_generation_params={"AnimateDiff clips": clips}, batch_index=place - 1, **fields)
    return SimpleNamespace(p=p, filename=str(path), image=image.quantize(4))


@pytest.mark.parametrize("suffix", [".png", ".webp"])
def test_the_saved_picture_is_the_whole_clip(gallery, clip, tmp_path, suffix):
    gallery.save_full_animation(saving(tmp_path / f"saved{suffix}", [clip]))
    saved = Image.open(tmp_path / f"saved{suffix}")
    assert (saved.n_frames, saved.size) == (3, (8, 8))
    assert read_recipe(tmp_path / f"saved{suffix}").infotext == "a cat"


def test_a_jpeg_keeps_the_first_frame(assert_left, clip, tmp_path):
    assert_left(saving(tmp_path / "saved.jpg", [clip]), mode="RGB")


@pytest.mark.parametrize("fields", [{"place": 1}, {"sd_model": None}], ids=["another picture", "while painting"])
def test_other_pictures_are_left_alone(assert_left, clip, tmp_path, fields):
    assert_left(saving(tmp_path / "saved.png", [clip], **fields), mode="P")


def test_a_clip_that_has_gone_leaves_the_picture(assert_left, tmp_path):
    assert_left(saving(tmp_path / "saved.png", [{"files": [str(tmp_path / "gone.gif")], "fps": 8}]))


@pytest.mark.parametrize("change", [
    lambda clip, secret: {**clip, "files": [str(secret)]},
    lambda clip, secret: {**clip, "files": [f"{clip['files'][0]}/../{secret.name}"]},
    lambda clip, secret: {**clip, "files": str(secret)},
    lambda clip, secret: {**clip, "files": [{"name": str(secret)}]},
    lambda clip, secret: [str(secret)],
    lambda clip, secret: {},
])  # fmt: skip
def test_a_file_that_the_page_was_never_shown_does_not_leave_the_server(assert_left, clip, tmp_path, change):
    secret = tmp_path / "secret.gif"
    secret.write_bytes((tmp_path / "a.gif").read_bytes())
    assert_left(saving(tmp_path / "saved.png", [change(clip, secret)]))


def test_the_drop_field_returns_no_text_file(webui, tmp_path):
    path = tmp_path / "passwords.txt"
    path.write_text("secret")
    assert "secret" not in str(webui.module("ui.panel")._dropped(SimpleNamespace(name=str(path))))


def test_forge_hides_the_infotext_in_the_colours_of_a_clip_and_not_in_its_palette(
    webui, gallery, clip, tmp_path, monkeypatch
):
    """It does so before any callback, and fails on a palette. A reload of the page leaves one wrapper."""
    hidden = []
    module = ModuleType("modules.stealth_infotext")
    module.add_stealth_pnginfo = lambda params: hidden.append(params.image.mode)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    prepared = []
    for number in (1, 2):
        webui.module("compat.a1111").before_hidden_infotext(
            lambda params, number=number: (prepared.append(number), gallery.convert_palette_to_rgb(params))
        )
    module.add_stealth_pnginfo(saving(tmp_path / "saved.png", [clip]))
    module.add_stealth_pnginfo(saving(tmp_path / "plain.png", [clip], place=1))
    assert (hidden, prepared) == (["RGB", "P"], [2, 2])
