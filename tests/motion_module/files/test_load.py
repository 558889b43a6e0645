"""A motion module file gives exactly its tensors and runs as its kind does; a faulty one is told its fault."""

from __future__ import annotations

import re
import struct
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from support.matrix import every_once, in_matrix
from support.motion_files import PICKLES, TABLE_LENGTHS, literal_positions, random_motion_state
from support.motion_states import FORMATS, KINDS, WIDTHS, assert_holds, official, refusal
from support.motions import OFFICIAL, SDXL_KINDS

from motion_module import load_motion_module

SITE = "down_blocks.0.motion_modules.0.temporal_transformer"
ATTENTION = f"{SITE}.transformer_blocks.0.attention_blocks.0"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mm.file"


def refusal_of(state, path, **how):
    save_file(state, path)
    return refusal(path, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_runs_as_it_was_trained(path, kind):
    facts, is_sdxl = OFFICIAL[kind], kind in SDXL_KINDS
    save_file(official(kind), path)
    motion = load_motion_module(path, kind=kind)
    assert_holds(motion, official(kind))
    assert (motion.kind, motion.base, motion.trained_length) == (kind, "sdxl" if is_sdxl else "sd15", facts.length)
    assert motion.schedule.name == ("scaled_linear" if is_sdxl else "linear")
    assert motion.schedule.beta_end == (0.020 if kind == "sdxl" else 0.012)
    assert motion.shared_resnet_norms is facts.resnet_norms
    assert motion.best_length == {"hotshot": 8}.get(kind, facts.length)
    assert {transformer.shared_norm for _, transformer in motion.sites()} == {facts.own_norm}
    assert motion.name == path.name
    assert not any(module.training for module in motion.modules())
    assert not any(weight.requires_grad for weight in motion.parameters())


@pytest.mark.parametrize(("kind", "length"), [("v2", 64), ("v3", 64), ("v3", 16), ("v2", 24)])
def test_a_fine_tune_is_as_long_as_its_own_tables(path, kind, length):
    """LongAnimateDiff, for one, has tables of 64."""
    save_file(random_motion_state(kind, WIDTHS, length=length), path)
    motion = load_motion_module(path)
    assert (motion.kind, motion.trained_length) == (kind, length)
    for name, transformer in motion.sites():
        for attention in transformer.transformer_blocks[0].attention_blocks:
            wanted = literal_positions(length, transformer.proj_in.in_features)
            torch.testing.assert_close(attention.pe, wanted, msg=name)


@pytest.mark.parametrize("written", PICKLES)
def test_objects_of_unknown_classes_beside_the_weights_do_no_harm(tmp_path, monkeypatch, written):
    library = ModuleType("vanishing_config_library")
    exec(
        "import enum\n"
        "class Node:\n    def __init__(self, **values): self.__dict__.update(values)\n"
        "class Tree(dict): pass\n"
        "class Row(list): pass\n"
        "class Bag(set): pass\n"
        "class Flag(enum.Enum):\n    ON = 1\n",
        vars(library),
    )
    monkeypatch.setitem(sys.modules, library.__name__, library)
    tree = library.Tree(node=library.Node(a=[1, library.Flag.ON]), row=library.Row([library.Node()]))
    tree.parent, key = tree, library.Node(key=True)
    more = {"animatediff_config": tree, "bag": library.Bag([key]), "nodes": {key: 1}, "class": library.Node}
    PICKLES[written]({**more, "model": tree, "state_dict": official()}, tmp_path / "mm.ckpt")
    monkeypatch.delitem(sys.modules, library.__name__)
    assert_holds(load_motion_module(tmp_path / "mm.ckpt"), official())


def test_it_works_where_torch_load_is_replaced(path, monkeypatch):
    torch.save(official(), path)
    monkeypatch.setattr(torch, "load", lambda *_args, **_kwargs: None)  # as the WebUI does for a file it doubts
    assert_holds(load_motion_module(path), official())


@pytest.mark.parametrize("written", FORMATS)
def test_a_loaded_module_owns_its_weights(path, written):
    FORMATS[written](official(), path)
    motion = load_motion_module(path)
    with path.open("r+b") as file:  # the very file that may be mapped
        file.write(b"\xff" * path.stat().st_size)
    assert_holds(motion, official())


def test_weights_that_share_memory_in_the_file_are_apart_afterwards(path):
    state = official()
    one, other = f"{SITE}.proj_in.bias", f"{SITE}.proj_out.bias"
    state[one] = state[other] = torch.randn(64)[::2]
    torch.save(state, path)
    motion = load_motion_module(path)
    assert_holds(motion, state)
    motion.state_dict()[one].zero_()
    assert torch.equal(motion.state_dict()[other], state[other])


def test_a_header_length_that_looks_like_a_page_is_none(path):
    """A safetensors file opens with its header's length: 0x...3C20 reads " <"."""
    save_file(official(), path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    wanted = length + (0x3C20 - length) % 0x10000
    path.write_bytes(struct.pack("<Q", wanted) + content[8 : 8 + length].ljust(wanted) + content[8 + length :])
    assert path.read_bytes()[:2] == b" <"
    assert_holds(load_motion_module(path), official())


OTHERS_OF_LAYOUT = {"v1": "v3", "v2": "lcm", "v3": "v1", "sdxl": "hotshot", "hotshot": "sdxl", "lcm": "v2"}


@pytest.mark.parametrize("kind", KINDS)
def test_without_tables_the_kind_must_be_said(tmp_path, kind):
    state, path = official(kind, tables=False), tmp_path / "mm.safetensors"
    message = refusal_of(state, path)
    assert "Rename the file so that its name contains the right one" in message
    assert {kind, OTHERS_OF_LAYOUT[kind]} <= set(message.replace(",", "").replace(".", " ").split())
    renamed = tmp_path / f"mm_{kind}.safetensors"
    save_file(state, renamed)
    assert load_motion_module(renamed).kind == kind
    motion = load_motion_module(path, kind=kind)
    assert_holds(motion, state)
    assert (motion.kind, motion.trained_length) == (kind, TABLE_LENGTHS[kind])


KNOWN_NAMES = {
    "v1": "mm_sd_v14 mm_sd_v15 animatediffMotion_v14 animatediff-motion-adapter-v1-4 "
    "animatediff-motion-adapter-v1-5 improved3DMotion_v1-4 MM_SD_V15_fp16 "
    "temporaldiff-v1-animatediff mm-Stabilized_mid mm-Stabilized_high",
    "v2": "mm_sd_v15_v2 animatediffMotion_v15V2 animatediff-motion-adapter-v1-5-2 LongAnimateDiff mm-p_0.5 "
    "mm-p_0.75 animatediff_lightning_4step_comfyui lt_long_mm_32_frames",
    "v3": "v3_sd15_mm mm_sd15_v3 mm_sd_v15_v3 AnimateDiff_v1.5_v3 animatediff-motion-adapter-v1-5-3",
    "sdxl": "mm_sdxl_v10_beta animatediff-motion-adapter-sdxl-beta",
    "hotshot": "hotshotxl_mm_v1 hsxl_temporal_layers.f16",
    "lcm": "AnimateLCM_sd15_t2v",
}


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (kind, name) if place == 0 else in_matrix(kind, name)
        for kind in KINDS
        for place, name in enumerate(KNOWN_NAMES[kind].split())
    ],
)
def test_without_tables_the_name_that_a_file_is_known_by_tells(tmp_path, kind, name):
    save_file(official(kind, tables=False), tmp_path / f"{name}.safetensors")
    assert load_motion_module(tmp_path / f"{name}.safetensors").kind == kind


def test_tables_say_more_than_a_name_and_a_name_of_two_kinds_tells_nothing(tmp_path):
    save_file(official("v1"), tmp_path / "v3_sd15_mm.safetensors")
    assert load_motion_module(tmp_path / "v3_sd15_mm.safetensors").kind == "v1"
    assert "its kind is ambiguous" in refusal_of(official("v2", tables=False), tmp_path / "lcm_v2.safetensors")


def test_sdxl_tables_of_an_unknown_length_tell_nothing(path):
    message = refusal_of(random_motion_state("sdxl", WIDTHS, length=16), path)
    assert "positional tables of an unusual length, so its kind is ambiguous" in message
    assert load_motion_module(path, kind="hotshot").trained_length == 16


def is_shown(places):
    """Each kind with one of another layout, and with one that has its layout."""
    kind, wrong, tables = places
    is_of_layout = KINDS[wrong] == OTHERS_OF_LAYOUT[KINDS[kind]]
    return is_of_layout or ((wrong - kind) % len(KINDS) == 2 and kind % 2 == tables)


@pytest.mark.parametrize(("kind", "wrong", "tables"), every_once(KINDS, KINDS, [True, False], more=is_shown))
def test_only_a_kind_of_another_layout_is_refused(path, kind, wrong, tables):
    save_file(official(kind, tables=tables), path)
    if wrong in (kind, OTHERS_OF_LAYOUT[kind]):
        assert load_motion_module(path, kind=wrong).kind == wrong
    else:
        message = refusal(path, kind=wrong)
        assert re.search(rf"kind \w+ or \w+ and cannot be loaded as {wrong}", message)
        assert kind in message


def test_an_unknown_kind_is_answered_with_the_known_ones(path):
    message = refusal_of(official(), path, kind="v4")
    assert all(word in message for word in ("'v4'", *KINDS))


@pytest.mark.parametrize(
    "part",
    [
        f"{SITE}.proj_in.weight",
        f"{ATTENTION}.pos_encoder.pe",
        "up_blocks.3.motion_modules.2.temporal_transformer.norm.bias",
        "down_blocks.0.motion_modules.1.",
        "up_blocks.1.motion_modules.0.",
        "down_blocks.3.",
        "up_blocks.3.",
        "up_blocks.",
    ],
)
def test_missing_weights_and_sites_are_named(path, part):
    state = {key: tensor for key, tensor in official().items() if not key.startswith(part)}
    message = refusal_of(state, path)
    assert part in message
    assert "is missing" in message


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", [f"{SITE}.proj_in.weight", f"{SITE}.proj_in.bias", f"{ATTENTION}.pos_encoder.pe"])
@pytest.mark.parametrize("shape", [(), (0,), (31,), (32, 1), (64,), (1, 16, 32), (1, 0, 32), (2, 32, 32), (33, 33)])
def test_a_wrong_shape_is_named(path, name, shape):
    assert f"{name} has shape {shape}" in refusal_of({**official(), name: torch.zeros(shape)}, path)


PROJECTION = f"{SITE}.proj_in.weight"
SURPLUS = PROJECTION.replace("modules.0", "modules.2")


@pytest.mark.parametrize(
    ("key", "dtype", "words"),
    [
        ("surplus", torch.float32, "surplus is unexpected"),
        (SURPLUS, torch.float32, f"{SURPLUS} is unexpected"),
        ("line\nbreak" + "x" * 1000, torch.float32, "line breakxxx"),
        (PROJECTION, torch.int8, f"{PROJECTION} has dtype int8"),
        (PROJECTION, torch.int64, f"{PROJECTION} has dtype int64"),
        (PROJECTION, torch.bool, f"{PROJECTION} has dtype bool"),
    ],
    ids=str,
)
def test_a_weight_too_many_or_of_whole_numbers_is_named(path, key, dtype, words):
    assert words in refusal_of({**official(), key: torch.zeros(32, 32, dtype=dtype)}, path)


def test_of_many_problems_the_first_are_named_and_the_rest_counted(path):
    state = {**official(), **{f"surplus{i}": torch.zeros(1) for i in range(10)}}
    message = refusal_of(state, path)
    assert message.count("is unexpected") == 3
    assert "and 7 more" in message
