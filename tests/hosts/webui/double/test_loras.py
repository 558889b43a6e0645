"""Motion LoRAs and domain adapters in the WebUI: their list, their tags, and what a clip is made with."""

from __future__ import annotations

import gc
import os
import weakref
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file
from support.adapter_files import kohya, official, write_adapter
from support.motion_lora_files import official as official_motion
from support.motion_lora_files import write_lora
from support.webui_double.double import CLIP

from lib_animatediff.request.loras import LoraFile, parse_loras
from motion_module import ClipError, IncompatibleModelError, MotionFileError, load_motion_module

Q = "down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
CHANGE = {Q: (torch.ones(2, 32), torch.ones(32, 2))}
SITE = "down_blocks.0.motion_modules.0"


@pytest.fixture
def loras(webui):
    return webui.module("catalog.loras")


@pytest.fixture
def folder(webui):
    """The WebUI's own folder of LoRAs."""
    folder = webui.models_folder.parent / "Lora"
    folder.mkdir()
    return folder


def motion_lora(path, alias=None, kind="v3"):
    path.parent.mkdir(exist_ok=True)
    write_lora(path, official_motion, kind=kind, metadata={"ss_output_name": alias} if alias else None)
    return path


def adapter(path):
    return write_adapter(path, CHANGE, official)


def image_lora(path, alias=None):
    state = {name: t for layer, pair in CHANGE.items() for name, t in zip(kohya(layer), pair, strict=True)}
    save_file(state, path, {"ss_output_name": alias} if alias else None)
    return path


def test_ours_are_told_from_all_others_by_their_headers(loras, webui, folder):
    pan = motion_lora(folder / "pan.safetensors")
    zoom = motion_lora(webui.models_folder / "sub" / "zoom.v2.ckpt")
    v3 = adapter(folder / "v3.safetensors")
    image_lora(folder / "style.safetensors")
    (folder / "broken.safetensors").write_text("<html>")
    assert loras.available_loras() == {"pan": pan, "v3": v3, "zoom.v2": zoom}


def test_they_are_no_motion_modules(loras, webui):
    motion_lora(webui.models_folder / "pan.safetensors")
    adapter(webui.models_folder / "v3.safetensors")
    image_lora(webui.models_folder / "style.safetensors")
    models = webui.module("catalog.models")
    assert list(models.available_models()) == ["mm.safetensors", "style.safetensors"]
    (webui.models_folder / "style.safetensors").unlink()
    assert models.find_model("").name == "mm.safetensors"  # the only one, still


def test_a_header_is_read_once_and_that_of_a_changed_file_anew(loras, folder, webui, monkeypatch):
    path = image_lora(folder / "a.safetensors")
    assert loras.available_loras() == {}
    motion_lora(path)
    assert loras.available_loras() == {"a": path}
    monkeypatch.setattr(webui.module("catalog.lora_files"), "read_header", None)
    assert loras.available_loras() == {"a": path}
    path.unlink()
    assert loras.available_loras() == {}


def test_the_webuis_options_say_where_its_folders_are(loras, webui, tmp_path):
    webui.module("shared").cmd_opts = SimpleNamespace()  # as without the builtin extension
    assert loras.available_loras() == {}
    motion_lora(webui.models_folder.parent / "Lora" / "c.safetensors")
    options = SimpleNamespace(lora_dir=str(tmp_path / "one"), lyco_dir_backcompat=str(tmp_path / "two"))
    webui.module("shared").cmd_opts = options
    one, two = motion_lora(tmp_path / "one" / "a.safetensors"), motion_lora(tmp_path / "two" / "b.safetensors")
    assert loras.available_loras() == {"a": one, "b": two}


@pytest.mark.parametrize("name", ["pan", "pan.safetensors", "sideways"])
def test_one_is_found_by_its_names(loras, folder, name):
    path = motion_lora(folder / "pan.safetensors", alias="sideways")
    assert loras.find_lora(name) == path


def test_the_whole_name_goes_before_a_name_with_a_suffix(loras, folder):
    path = motion_lora(folder / "pan.ckpt.safetensors")
    motion_lora(folder / "pan.ckpt")
    assert loras.find_lora("pan.ckpt") == path


@pytest.mark.parametrize(
    ("files", "name", "words"),
    [
        ([], "pan", r"There is no motion LoRA 'pan', nor any other, in .*Lora or .*animate"),
        (["PanLeft", "ZoomIn"], "zoomin", r"no motion LoRA 'zoomin' in .*Lora or .*, such as ZoomIn\."),
        ([], "style", r"style\.safetensors is neither .*: <lora:style:1>\."),
        ([], "style.safetensors", r"style\.safetensors is neither .*: <lora:style:1>\."),
    ],
)
def test_where_there_is_none_of_a_name_it_is_told_what_there_is_and_where_it_belongs(loras, folder, files, name, words):
    image_lora(folder / "style.safetensors")
    for file in files:
        motion_lora(folder / f"{file}.safetensors")
    with pytest.raises(MotionFileError, match=words):
        loras.find_lora(name)


@pytest.mark.parametrize("name", ["../outside", "../outside.safetensors", "./pan", ""])
def test_nothing_is_found_by_a_path(loras, folder, name):
    motion_lora(folder / "pan.safetensors")
    motion_lora(folder.parent / "outside.safetensors")
    for asked in (name, str(folder / name)):
        with pytest.raises(MotionFileError, match="There is no motion LoRA"):
            loras.find_lora(asked)


def named(loras):
    return [(lora.name, lora.strength) for lora in loras]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" , \n", []),
        ("pan", [("pan", 1.0)]),
        (" pan : 0.8 , zoom", [("pan", 0.8), ("zoom", 1.0)]),
        ("pan:-1\nzoom:.5", [("pan", -1.0), ("zoom", 0.5)]),
        ("<lora:pan:0.5>", [("pan", 0.5)]),
        ("<lora:pan:0.5><lora:zoom> other:2", [("pan", 0.5), ("zoom", 1.0), ("other", 2.0)]),
        ("pan:0, pan:1", [("pan", 0.0), ("pan", 1.0)]),
        ("v2_lora_PanLeft.ckpt:1", [("v2_lora_PanLeft.ckpt", 1.0)]),
    ],
)
def test_names_and_strengths_are_read(text, expected):
    assert named(parse_loras(text)) == expected


@pytest.mark.parametrize("piece", ["pan:strong", "pan:", ":1", "pan:nan", "pan:inf", "<lora:pan:x>".strip("<>")])
def test_what_is_not_understood_is_named(piece):
    with pytest.raises(ClipError, match=r"Write a name and a strength") as error:
        parse_loras(f"good:1, {piece}")
    assert repr(piece.strip()) in str(error.value) or piece.startswith("lora")


def taken_of(loras, prompt):
    """The prompt without our tags, and what they say."""
    rest, taken = loras.take_tags(prompt)
    return rest, named(taken)


@pytest.mark.parametrize(
    ("tag", "strength"),
    [
        ("<lora:pan>", 1.0),
        ("<lora:pan:0.8>", 0.8),
        ("<lyco:pan:0.8>", 0.8),
        ("<lora:pan:0.8:0.3>", 0.3),
        ("<lora:pan:te=0.8:unet=0.3>", 0.3),
        ("<lora:pan:unet=0.3:0.8>", 0.3),
        ("<lora:pan:te=0.8>", 0.8),
        ("<lora:pan:0.8:0.3:16>", 0.3),
        ("<lora:pan:-1.5:dyn=4>", -1.5),
    ],
)
def test_our_tags_are_taken_out_with_the_strength_for_the_unet(loras, folder, tag, strength):
    motion_lora(folder / "pan.safetensors")
    assert taken_of(loras, f"a cat, {tag}, (red:1.2)") == ("a cat, , (red:1.2)", [("pan", strength)])


def test_other_tags_stay_as_they_are(loras, folder):
    image_lora(folder / "style.safetensors")
    motion_lora(folder / "pan.safetensors")
    adapter(folder / "v3.safetensors")
    others = "<lora:style:0.5> <hypernet:pan:1> <lora:unknown:1> <lora:> <b> [a:b:0.5]"
    prompt, taken = taken_of(loras, f"<lora:v3:0.5>{others}<lora:pan:1>")
    assert prompt == others
    assert taken == [("v3", 0.5), ("pan", 1.0)]


def test_a_prompt_without_tags_needs_no_look_at_the_folders(loras, webui, monkeypatch):
    monkeypatch.setattr(webui.module("util"), "walk_files", None)
    assert taken_of(loras, "a cat, (red:1.2) <3") == ("a cat, (red:1.2) <3", [])


def test_a_strength_that_is_no_number_is_told_with_the_tag(loras, folder):
    motion_lora(folder / "pan.safetensors")
    with pytest.raises(ClipError, match="'<lora:pan:much>'"):
        taken_of(loras, "<lora:pan:much>")


def test_a_file_of_the_webui_keeps_its_name(loras, folder, webui):
    image_lora(folder / "same.safetensors")
    ours = motion_lora(webui.models_folder / "same.safetensors")
    assert taken_of(loras, "<lora:same:1>") == ("<lora:same:1>", [])
    ours.rename(ours.with_stem("pan"))
    assert taken_of(loras, "<lora:pan:1>") == ("", [("pan", 1.0)])


def test_an_alias_stands_for_its_file_unless_two_have_it(loras, folder):
    motion_lora(folder / "pan.safetensors", alias="sideways")
    assert taken_of(loras, "<lora:sideways:1>") == ("", [("sideways", 1.0)])
    style = image_lora(folder / "style.safetensors", alias="sideways")
    assert taken_of(loras, "<lora:sideways:1>")[1] == []
    style.rename(folder / "sideways.safetensors")  # a file's own name goes before an alias
    assert taken_of(loras, "<lora:sideways:1>")[1] == []


@pytest.fixture
def motion(motion_file):
    return load_motion_module(motion_file)


@pytest.fixture
def cache(loras):
    return loras.LoraCache()


def test_files_become_what_a_clip_is_made_with(cache, motion, folder):
    pan = motion_lora(folder / "pan.safetensors", kind="v2")
    v3 = adapter(folder / "v3.safetensors")
    before = {name: weight.clone() for name, weight in motion.state_dict().items()}
    loaded = cache.load(motion, [LoraFile(pan, 0.5), LoraFile(v3, 0.8)])
    name = f"{SITE}.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight"
    assert not torch.equal(loaded.motion.state_dict()[name], before[name])
    assert all(torch.equal(weight, before[key]) for key, weight in motion.state_dict().items())
    assert [(found.name, strength) for found, strength in loaded.adapters] == [("v3.safetensors", 0.8)]
    assert loaded.reports == [
        "pan.safetensors: 160 of its 168 weights match mm_small_v3.safetensors; 8 belong to the middle block, which "
        "this motion module (v3) lacks: the LoRA was made for v2 and may have little effect."
    ]


def test_strength_zero_is_the_motion_module_itself(cache, motion, folder):
    loaded = cache.load(motion, [LoraFile(motion_lora(folder / "pan.safetensors"), 0.0)])
    assert loaded.motion is motion
    assert len(loaded.reports) == 1
    assert cache.load(motion, []).motion is motion


def test_whatever_changes_is_loaded_anew(cache, motion, motion_file, folder):
    pan, zoom = motion_lora(folder / "pan.safetensors"), motion_lora(folder / "zoom.safetensors")
    two = [LoraFile(pan, 0.6), LoraFile(zoom, 0.6)]
    loaded = [cache.load(motion, [LoraFile(pan, 0.5)])]
    assert cache.load(motion, [LoraFile(pan, 0.5)]) is loaded[0]  # the next clip starts at once
    loaded += [cache.load(motion, files) for files in (two[:1], two[1:], two)]
    os.utime(pan, (1000, 1000))
    loaded.append(cache.load(motion, two))
    loaded.append(cache.load(load_motion_module(motion_file), two))
    assert len({id(one) for one in loaded}) == len(loaded)


def test_one_copy_is_kept_and_no_motion_module(cache, motion, motion_file, folder):
    pan = motion_lora(folder / "pan.safetensors")
    other = load_motion_module(motion_file)
    copy, base = weakref.ref(cache.load(other, [LoraFile(pan, 1)]).motion), weakref.ref(other)
    del other
    gc.collect()
    assert base() is None
    assert copy() is not None
    cache.load(motion, [])
    gc.collect()
    assert copy() is None


def test_without_a_merged_copy_nothing_is_kept(cache, motion_file, folder):
    """The motion module is large enough once."""
    motion = load_motion_module(motion_file)
    base, v3 = weakref.ref(motion), adapter(folder / "v3.safetensors")
    cache.load(motion, [LoraFile(v3, 1.0)])
    cache.load(motion, [LoraFile(motion_lora(folder / "pan.safetensors"), 0.0)])
    del motion
    gc.collect()
    assert base() is None


def test_a_file_that_has_gone_is_told_so(cache, motion, folder):
    with pytest.raises(MotionFileError, match=r"pan\.ckpt is no longer in .*Lora"):
        cache.load(motion, [LoraFile(folder / "pan.ckpt", 1)])


def test_what_does_not_fit_is_refused_whatever_its_strength(cache, motion, folder):
    names = official_motion("down_blocks.7.motion_modules.0", 0, "q")
    save_file({names[0]: torch.ones(2, 32), names[1]: torch.ones(32, 2)}, folder / "pan.safetensors")
    for strength in (0, 1):
        with pytest.raises(IncompatibleModelError, match="None of the 1 weights"):
            cache.load(motion, [LoraFile(folder / "pan.safetensors", strength)])


def test_after_a_clip_the_second_pass_has_its_tags_again(webui, folder):
    motion_lora(folder / "pan.safetensors")
    p = webui.request(CLIP, prompt="a cat <lora:pan:1>", enable_hr=True)
    webui.double.process_images(p)
    assert p.all_hr_prompts == ["a cat <lora:pan:1>"] * 2
