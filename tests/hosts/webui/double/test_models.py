"""The list of motion modules, finding one by its name, and keeping the one last used."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.matrix import in_matrix
from support.motion_files import SMALL_WIDTHS, adapter_config, as_adapter, random_motion_state, write_motion_file
from support.webui_double import double

from motion_module import MotionFileError

WITHOUT_FILE = "Text2Video-Zero [no file, any checkpoint]"


@pytest.fixture
def models(webui):
    (webui.models_folder / "mm.safetensors").unlink()
    return webui.module("catalog.models")


@pytest.fixture
def put(webui):
    """Puts an empty file into the folder of motion modules."""

    def put(name):
        path = webui.models_folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    return put


def test_the_list_is_sorted_goes_into_folders_and_holds_weights_only(models, put):
    weights = ["a.safetensors", "b.bin", "c.SAFETENSORS", "folder/a c.ckpt", "folder/deeper/b.pt", "z.pth"]
    for name in [*reversed(weights), "a.yaml", "b.txt", "c.safetensors.part", "folder/d.png"]:
        put(name)
    assert list(models.available_models()) == weights


def test_a_folder_with_a_weights_suffix_and_a_link_to_nowhere_are_not_listed(models, webui, tmp_path):
    (webui.models_folder / "folder.ckpt").mkdir()
    (webui.models_folder / "a.ckpt").symlink_to(tmp_path / "gone.ckpt")
    assert models.available_models() == {}


def test_linked_files_and_folders_are_listed(models, put, webui, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "b.ckpt").touch()
    (webui.models_folder / "a.ckpt").symlink_to(elsewhere / "b.ckpt")
    (webui.models_folder / "shared").symlink_to(elsewhere)
    assert list(models.available_models()) == ["a.ckpt", "shared/b.ckpt"]
    assert models.find_model("a") == webui.models_folder / "a.ckpt"


def test_without_the_folder_it_is_said_where_to_put_a_module(models, webui):
    webui.models_folder.rmdir()
    assert models.available_models() == {}
    with pytest.raises(MotionFileError) as error:
        models.find_model("mm")
    assert str(error.value) == (
        f"No motion module was found. Download one (such as v3_sd15_mm.ckpt, from {models.WHERE_TO_GET}) and put it "
        f"into {webui.models_folder}. Then refresh the list. Or choose Text2Video-Zero, which needs no file. [AD-W05]"
    )


def test_the_badge_says_what_a_file_is(models, put, webui, motion_file):
    (webui.models_folder / "v3.safetensors").symlink_to(motion_file)
    put("page.ckpt").write_text("<!DOCTYPE html>")
    assert models.choices() == ["v3.safetensors [v3, SD 1.5]", "page.ckpt [a web page]", WITHOUT_FILE]


def test_a_name_with_its_badge_finds_the_file(models, put):
    path = put("folder/mm [old].ckpt")
    for name in ("folder/mm [old].ckpt", "folder/mm [old].ckpt [v3, SD 1.5]"):
        assert models.find_model(name) == path


def test_every_folder_is_searched_and_the_first_one_wins(models, put, webui, tmp_path, monkeypatch):
    chosen, own = tmp_path / "chosen", tmp_path / "own"
    for folder in (chosen, own):
        folder.mkdir()
        (folder / "same.ckpt").touch()
        (folder / f"{folder.name}.ckpt").touch()
    monkeypatch.setattr(models, "OWN_FOLDER", own)
    webui.module("shared").opts.animatediff_model_path = f" {chosen} "
    assert list(models.available_models()) == ["chosen.ckpt", "own.ckpt", "same.ckpt"]
    assert models.find_model("same") == chosen / "same.ckpt"
    mine = put("same.ckpt")
    assert models.find_model("same") == mine
    assert models.listed_name(own / "own.ckpt") == "own.ckpt"


@pytest.mark.parametrize("chosen", ["sub", "sub/deeper", ".", ".."])
def test_a_file_in_two_of_the_folders_is_listed_once(models, put, webui, chosen):
    put("sub/deeper/mm.ckpt")
    webui.module("shared").opts.animatediff_model_path = str(webui.models_folder / chosen)
    assert list(models.available_models()) == ["sub/deeper/mm.ckpt"]


def test_the_users_own_folder_is_understood(models, webui, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    (tmp_path / "chosen").mkdir()
    (tmp_path / "chosen" / "mm.ckpt").touch()
    webui.module("shared").opts.animatediff_model_path = "~/chosen"
    assert models.find_model("mm") == tmp_path / "chosen" / "mm.ckpt"
    webui.module("shared").opts.animatediff_model_path = "~nobody-of-this-name/chosen"
    assert models.available_models() == {}


def test_a_file_that_has_just_gone_is_told_so(models, put, monkeypatch):
    path = put("folder/mm.ckpt")
    listed = models.available_models()
    path.unlink()
    assert models.listed_name(path) == "mm.ckpt"
    with pytest.raises(MotionFileError, match=r"mm\.ckpt is no longer in .*folder\. Refresh the list"):
        models.MotionModuleCache().load(path)
    monkeypatch.setattr(models, "available_models", lambda: listed)
    assert models.choices() == ["folder/mm.ckpt", WITHOUT_FILE]


def test_the_badge_and_the_cache_follow_a_motion_adapters_config(models, webui, monkeypatch):
    folder = webui.models_folder / "adapter"
    folder.mkdir()
    save_file(as_adapter(random_motion_state("v3"), tables=False), folder / "diffusion_pytorch_model.safetensors")
    badges, read = [], []
    monkeypatch.setattr(models, "load_motion_module", lambda path: read.append(path) or object())
    cache = models.MotionModuleCache()
    for kind in ("v3", "v1"):
        (folder / "config.json").write_text(json.dumps(adapter_config(kind, SMALL_WIDTHS)))
        touch(folder / "config.json", 1000 + len(badges))
        badges += models.choices()[:-1]
        cache.load(models.find_model(""))
    name = "adapter/diffusion_pytorch_model.safetensors"
    assert badges == [f"{name} [v3, SD 1.5]", f"{name} [v1, SD 1.5]"]
    assert len(read) == 2


@pytest.mark.parametrize(
    ("name", "found", "other"),
    [
        ("folder/mm.v3.ckpt", "folder/mm.v3.ckpt", "folder/mm.ckpt"),
        ("folder/mm.v3", "folder/mm.v3.ckpt", "folder/mm.ckpt"),
        ("mm.ckpt", "mm.ckpt", "mm.ckpt.safetensors"),
    ],
)
def test_a_module_is_found_with_and_without_its_suffix_and_a_whole_name_goes_first(models, put, name, found, other):
    path = put(found)
    put(other)
    assert models.find_model(name) == path


def test_the_only_module_needs_no_name_and_does_not_stand_for_another(models, put):
    path = put("mm.ckpt")
    assert models.find_model("") == path
    with pytest.raises(MotionFileError, match="There is no motion module 'quite another'"):
        models.find_model("quite another")


def test_of_several_modules_one_must_be_chosen_and_an_unknown_name_is_told_the_nearest(models, put):
    put("mm_sd15_v3.ckpt")
    put("zoom/other.ckpt")
    with pytest.raises(MotionFileError, match=r"^No motion module was chosen. .* mm_sd15_v3\.ckpt\. \[AD-W06\]$"):
        models.find_model("")
    with pytest.raises(MotionFileError, match=r"no motion module 'zoom/othr' in .*, for example zoom/other\."):
        models.find_model("zoom/othr")


@pytest.mark.parametrize("name", ["../outside.ckpt", "folder/../../outside.ckpt", "folder/../mm.ckpt", "./mm.ckpt"])
def test_nothing_is_found_by_a_path(models, put, webui, name):
    put("mm.ckpt")
    put("folder/mm.ckpt")
    (webui.models_folder.parent / "outside.ckpt").touch()
    for path in (name, str((webui.models_folder / name).resolve())):
        with pytest.raises(MotionFileError, match="There is no motion module"):
            models.find_model(path)


@pytest.fixture
def cache(models, monkeypatch):
    """A cache whose files are read by making a new object, which a file with words in it refuses."""
    read = []

    def load(path):
        read.append(path)
        if path.read_text():
            raise MotionFileError("broken")
        return object()

    monkeypatch.setattr(models, "load_motion_module", load)
    cache = models.MotionModuleCache()
    cache.read = read
    return cache


def touch(path: Path, seconds: int) -> None:
    os.utime(path, (seconds, seconds))


def test_an_unchanged_file_is_read_once_and_a_changed_or_another_one_anew(cache, put):
    one, other = put("a.ckpt"), put("b.ckpt")
    touch(one, 1000)
    first = cache.load(one)
    assert cache.load(one) is first
    assert cache.read == [one]
    touch(one, 2000)
    assert (second := cache.load(one)) is not first
    touch(other, 2000)
    assert cache.load(other) is not second


def test_a_file_that_became_unreadable_is_not_answered_from_memory(cache, put):
    path = put("mm.ckpt")
    cache.load(path)
    path.write_text("no longer a motion module")
    for _ in range(2):
        with pytest.raises(MotionFileError):
            cache.load(path)


def test_the_former_module_is_gone_when_the_next_is_read(cache, put, models, monkeypatch):
    cache.load(put("a.ckpt"))
    kept = []
    monkeypatch.setattr(models, "load_motion_module", lambda path: kept.append(cache._motion))
    cache.load(put("b.ckpt"))
    assert kept == [None]


def test_after_a_failure_the_former_module_is_read_again(cache, put):
    good, bad = put("a.ckpt"), put("b.ckpt")
    first = cache.load(good)
    bad.write_text("no motion module")
    with pytest.raises(MotionFileError):
        cache.load(bad)
    assert cache.load(good) is not first


@pytest.mark.parametrize("name", ["mm_sd15_v3.safetensors", "mm_sd15_v3", "v3_sd15_mm"])
def test_a_module_is_found_under_its_other_published_name(webui, name):
    path = webui.models_folder / "v3_sd15_mm.ckpt"
    path.symlink_to((webui.models_folder / "mm.safetensors").resolve())
    assert webui.module("catalog.models").find_model(name) == path


# ---- what fits the loaded checkpoint

MARK = ": not for this checkpoint]"


@pytest.fixture
def several(models, webui):
    """For each base, of another width, and no motion modules."""
    folder = webui.models_folder
    write_motion_file(folder, "v3", name="b.safetensors")
    write_motion_file(folder, "sdxl", name="a.safetensors")
    save_file(random_motion_state("v2", (64, 128, 256, 256)), folder / "c.safetensors")
    write_motion_file(folder, "v2", name="d.safetensors")
    (folder / "0.ckpt").write_text("<!DOCTYPE html>")
    save_file({"lora_unet_down.lora_up.weight": torch.ones(2, 2)}, folder / "lora.safetensors")
    return models


def test_what_fits_the_checkpoint_comes_first_and_the_rest_is_marked(several):
    listed = several.choices()
    assert listed[:2] == ["b.safetensors [v3, SD 1.5]", "d.safetensors [v2, SD 1.5]"]
    assert listed[2:4] == [f"a.safetensors [sdxl, SDXL{MARK}", f"c.safetensors [v2, SD 1.5{MARK}"]
    assert listed[4] == "0.ckpt [a web page]"
    assert listed[5].startswith("lora.safetensors [")
    assert listed[6:] == [WITHOUT_FILE]


def test_the_marks_follow_the_checkpoint_and_there_are_none_without_one(several, checkpoint, monkeypatch):
    monkeypatch.setattr(checkpoint, "is_sdxl", True)
    assert several.choices()[:2] == ["a.safetensors [sdxl, SDXL]", f"b.safetensors [v3, SD 1.5{MARK}"]
    for flag in ("is_sd2", "is_sd3", "is_ssd"):
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, flag, True)
            assert sum(MARK in text for text in several.choices()) == 4
    double.shared.sd_model = None
    assert not any(MARK in text for text in several.choices())
    assert [text[0] for text in several.choices()[:4]] == ["a", "b", "c", "d"]


@pytest.mark.parametrize("badge", ["", in_matrix(" [sdxl, SDXL]"), f" [sdxl, SDXL{MARK}", in_matrix(" [v1, SD 1.5]")])
def test_a_name_is_understood_with_the_badge_of_any_checkpoint(several, webui, badge):
    path = webui.models_folder / "a.safetensors"
    for name in ("a.safetensors", "a"):
        assert several.find_model(name + badge) == path
        assert several.canonical_name(name + badge) == "a.safetensors"
        assert several.choice(name + badge) == f"a.safetensors [sdxl, SDXL{MARK}"
        assert several.selected(name + badge) == f"a.safetensors [sdxl, SDXL{MARK}"


def test_a_choice_is_kept_and_what_nobody_chose_gives_way_to_what_fits(several, webui):
    first = "b.safetensors [v3, SD 1.5]"
    for chosen in (several.choices()[1], several.choices()[2], "0.ckpt [a web page]", WITHOUT_FILE):
        assert several.selected(chosen) == chosen
    for unsuited in (several.choices()[2], "0.ckpt [a web page]"):
        assert several.selected(unsuited, is_choice=False) == first
    assert several.selected("d.safetensors [v2, SD 1.5]", is_choice=False) == "d.safetensors [v2, SD 1.5]"
    for gone in ("", "gone.ckpt [v3, SD 1.5]"):
        assert several.selected(gone) == first
    for name in "bd":
        (webui.models_folder / f"{name}.safetensors").unlink()
    assert several.selected(first) == ""
    assert several.selected("") == ""


def test_a_request_with_a_marked_name_reaches_the_file(webui):
    """Also from an axis of the plot, a client, or a pasted text: the mark may be of another checkpoint."""
    p = webui.request({"model": f"mm.safetensors [v3, SD 1.5{MARK}", "frames": 2})
    p.scripts.call("before_process", p)
    assert "model: mm.safetensors, frames: 2" in p.extra_generation_params["AnimateDiff"]


def test_the_example_in_a_refusal_is_a_module_that_fits(several):
    with pytest.raises(MotionFileError, match=r"for example b\.safetensors\."):
        several.find_model("")
