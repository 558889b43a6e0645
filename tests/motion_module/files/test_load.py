"""A motion module file gives exactly its tensors and runs as its kind does; a faulty one is told its fault."""

from __future__ import annotations

import functools
import re
import struct
import sys
from types import ModuleType

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import PICKLES, TABLE_LENGTHS, literal_positions, random_motion_state

from motion_module import MotionFileError, load_motion_module

WIDTHS = (32, 64, 32, 32)
KINDS = tuple(TABLE_LENGTHS)
FORMATS = {"safetensors": save_file, **PICKLES}
SITE = "down_blocks.0.motion_modules.0.temporal_transformer"
ATTENTION = f"{SITE}.transformer_blocks.0.attention_blocks.0"


@functools.cache
def official_state(kind, tables):
    return random_motion_state(kind, WIDTHS, tables=tables)


def official(kind="v3", *, tables=True):
    return dict(official_state(kind, tables))


def assert_holds(motion, state):
    weights = {key: tensor for key, tensor in state.items() if not key.endswith("pos_encoder.pe")}
    loaded = motion.state_dict()
    assert set(loaded) == set(weights)
    for key, tensor in weights.items():
        assert loaded[key].dtype == tensor.dtype, key
        assert torch.equal(loaded[key], tensor), key


def refusal(path, **how):
    with pytest.raises(MotionFileError) as caught:
        load_motion_module(path, **how)
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 500
    return message


def refusal_of(state, path, **how):
    save_file(state, path)
    return refusal(path, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_runs_as_it_was_trained(tmp_path, kind):
    base, length, schedule, end, resnet_norms, own_norm = {
        "v1": ("sd15", 24, "linear", 0.012, True, False),
        "v2": ("sd15", 32, "linear", 0.012, False, False),
        "v3": ("sd15", 32, "linear", 0.012, False, False),
        "sdxl": ("sdxl", 32, "scaled_linear", 0.020, False, True),
        "hotshot": ("sdxl", 24, "scaled_linear", 0.012, True, False),
        "lcm": ("sd15", 64, "linear", 0.012, False, False),
    }[kind]
    save_file(official(kind), tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors", kind=kind)
    assert_holds(motion, official(kind))
    assert (motion.kind, motion.base, motion.trained_length) == (kind, base, length)
    assert (motion.schedule.name, motion.schedule.beta_end) == (schedule, end)
    assert motion.shared_resnet_norms is resnet_norms
    assert motion.best_length == {"hotshot": 8}.get(kind, length)
    assert {transformer.shared_norm for _, transformer in motion.sites()} == {own_norm}
    assert motion.name == "mm.safetensors"
    assert not any(module.training for module in motion.modules())
    assert not any(weight.requires_grad for weight in motion.parameters())


@pytest.mark.parametrize(("kind", "length"), [("v2", 64), ("v3", 64), ("v3", 16), ("v2", 24)])
def test_a_fine_tune_is_as_long_as_its_own_tables(tmp_path, kind, length):
    """LongAnimateDiff, for one, has tables of 64."""
    save_file(random_motion_state(kind, WIDTHS, length=length), tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors")
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


def test_it_works_where_torch_load_is_replaced(tmp_path, monkeypatch):
    torch.save(official(), tmp_path / "mm.ckpt")
    monkeypatch.setattr(torch, "load", lambda *_args, **_kwargs: None)  # as the WebUI does for a file it doubts
    assert_holds(load_motion_module(tmp_path / "mm.ckpt"), official())


@pytest.mark.parametrize("written", FORMATS)
def test_a_loaded_module_owns_its_weights(tmp_path, written):
    path = tmp_path / "mm"
    FORMATS[written](official(), path)
    motion = load_motion_module(path)
    with path.open("r+b") as file:  # the very file that may be mapped
        file.write(b"\xff" * path.stat().st_size)
    assert_holds(motion, official())


def test_weights_that_share_memory_in_the_file_are_apart_afterwards(tmp_path):
    state = official()
    one, other = f"{SITE}.proj_in.bias", f"{SITE}.proj_out.bias"
    state[one] = state[other] = torch.randn(64)[::2]
    torch.save(state, tmp_path / "mm.ckpt")
    motion = load_motion_module(tmp_path / "mm.ckpt")
    assert_holds(motion, state)
    motion.state_dict()[one].zero_()
    assert torch.equal(motion.state_dict()[other], state[other])


def test_a_header_length_that_looks_like_a_page_is_none(tmp_path):
    """A safetensors file opens with its header's length: 0x...3C20 reads " <"."""
    path = tmp_path / "mm.safetensors"
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


@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind in KINDS for name in KNOWN_NAMES[kind].split()])
def test_without_tables_the_name_that_a_file_is_known_by_tells(tmp_path, kind, name):
    save_file(official(kind, tables=False), tmp_path / f"{name}.safetensors")
    assert load_motion_module(tmp_path / f"{name}.safetensors").kind == kind


def test_tables_say_more_than_a_name_and_a_name_of_two_kinds_tells_nothing(tmp_path):
    save_file(official("v1"), tmp_path / "v3_sd15_mm.safetensors")
    assert load_motion_module(tmp_path / "v3_sd15_mm.safetensors").kind == "v1"
    save_file(official("v2", tables=False), tmp_path / "lcm_v2.safetensors")
    assert "its kind is ambiguous" in refusal(tmp_path / "lcm_v2.safetensors")


def test_sdxl_tables_of_an_unknown_length_tell_nothing(tmp_path):
    save_file(random_motion_state("sdxl", WIDTHS, length=16), tmp_path / "mm.safetensors")
    assert "positional tables of an unusual length, so its kind is ambiguous" in refusal(tmp_path / "mm.safetensors")
    assert load_motion_module(tmp_path / "mm.safetensors", kind="hotshot").trained_length == 16


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wrong", KINDS)
@pytest.mark.parametrize("tables", [True, False])
def test_only_a_kind_of_another_layout_is_refused(tmp_path, kind, wrong, tables):
    save_file(official(kind, tables=tables), tmp_path / "mm.safetensors")
    if wrong in (kind, OTHERS_OF_LAYOUT[kind]):
        assert load_motion_module(tmp_path / "mm.safetensors", kind=wrong).kind == wrong
    else:
        message = refusal(tmp_path / "mm.safetensors", kind=wrong)
        assert re.search(rf"kind \w+ or \w+ and cannot be loaded as {wrong}", message)
        assert kind in message


def test_an_unknown_kind_is_answered_with_the_known_ones(tmp_path):
    message = refusal_of(official(), tmp_path / "mm.safetensors", kind="v4")
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
def test_missing_weights_and_sites_are_named(tmp_path, part):
    state = {key: tensor for key, tensor in official().items() if not key.startswith(part)}
    message = refusal_of(state, tmp_path / "mm.safetensors")
    assert part in message
    assert "is missing" in message


@pytest.mark.parametrize("key", ["surplus", "down_blocks.0.motion_modules.2.temporal_transformer.proj_in.weight"])
def test_a_key_too_many_is_named(tmp_path, key):
    state = {**official(), key: torch.zeros(32, 32)}
    assert f"{key} is unexpected" in refusal_of(state, tmp_path / "mm.safetensors")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", [f"{SITE}.proj_in.weight", f"{SITE}.proj_in.bias", f"{ATTENTION}.pos_encoder.pe"])
@pytest.mark.parametrize("shape", [(), (0,), (31,), (32, 1), (64,), (1, 16, 32), (1, 0, 32), (1, 32, 64), (2, 32, 32)])
def test_a_wrong_shape_is_named(tmp_path, name, shape):
    message = refusal_of({**official(), name: torch.zeros(shape)}, tmp_path / "mm.safetensors")
    assert f"{name} has shape {shape}" in message


@pytest.mark.parametrize(
    ("weight", "words"),
    [(torch.zeros(33, 33), "has shape (33, 33)"), (torch.zeros(32, 32, dtype=torch.int8), "has dtype int8")],
)
def test_a_weight_that_the_network_cannot_have_is_named(tmp_path, weight, words):
    key = f"{SITE}.proj_in.weight"
    assert f"{key} {words}" in refusal_of({**official(), key: weight}, tmp_path / "mm.safetensors")


def test_a_strange_name_is_shortened_to_a_line(tmp_path):
    state = {**official(), "line\nbreak" + "x" * 1000: torch.zeros(1)}
    assert "line breakxxx" in refusal_of(state, tmp_path / "mm.safetensors")


def test_of_many_problems_the_first_are_named_and_the_rest_counted(tmp_path):
    state = {**official(), **{f"surplus{i}": torch.zeros(1) for i in range(10)}}
    message = refusal_of(state, tmp_path / "mm.safetensors")
    assert message.count("is unexpected") == 3
    assert "and 7 more" in message
