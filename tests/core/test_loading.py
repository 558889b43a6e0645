"""A motion module file gives exactly its tensors; what is no motion module is called what it is."""

from __future__ import annotations

import functools
import random
import struct
import sys
from types import ModuleType

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from motion_files import PICKLES, literal_positions, random_motion_state
from safetensors.torch import save_file

from motion_module import MotionFileError, load_motion_module

WIDTHS = (32, 64, 32, 32)
KINDS = ("v2", "v3")
FORMATS = {"safetensors": save_file, **PICKLES}
SITE = "down_blocks.0.motion_modules.0.temporal_transformer"
ATTENTION = f"{SITE}.transformer_blocks.0.attention_blocks.0"
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


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


# What an official file may look like -------------------------------------------------------------------------------

DRESSES = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state},
    "two wrappers": lambda state: {"state_dict": {"module": state}},
    "training": lambda state: {"epoch": 3, "state_dict": {"module." + key: value for key, value in state.items()}},
    "parameters": lambda state: {key: torch.nn.Parameter(tensor) for key, tensor in state.items()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_safetensors_file_gives_its_own_tensors(tmp_path, kind):
    save_file(official(kind), tmp_path / "mm.safetensors")
    assert_holds(load_motion_module(tmp_path / "mm.safetensors"), official(kind))


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("written", PICKLES)
def test_a_pickle_gives_the_same_tensors_in_every_dress(tmp_path, dress, written):
    PICKLES[written](DRESSES[dress](official("v2")), tmp_path / "mm.ckpt")
    assert_holds(load_motion_module(tmp_path / "mm.ckpt"), official("v2"))


@pytest.mark.parametrize("kind", KINDS)
def test_kind_schedule_and_trained_length_come_from_the_file(tmp_path, kind):
    state = official(kind)
    for key in [key for key in state if key.endswith("pos_encoder.pe")]:
        state[key] = literal_positions(64, state[key].shape[2])  # a longer table, as LongAnimateDiff has
    save_file(state, tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors")
    assert (motion.kind, motion.schedule.name, motion.trained_length) == (kind, "linear", 64)
    assert motion.name == "mm.safetensors"
    for name, transformer in motion.sites():
        for attention in transformer.transformer_blocks[0].attention_blocks:
            torch.testing.assert_close(attention.pe, literal_positions(64, transformer.proj_in.in_features), msg=name)


def test_a_loaded_module_is_frozen_and_in_evaluation_mode(tmp_path):
    save_file(official(), tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors")
    assert not any(module.training for module in motion.modules())
    assert not any(weight.requires_grad for weight in motion.parameters())


def test_an_fp16_file_stays_fp16_but_its_positions_are_exact(tmp_path):
    state = {key: tensor.half() for key, tensor in official("v2").items()}
    save_file(state, tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors")
    assert_holds(motion, state)
    assert {tensor.dtype for tensor in motion.parameters()} == {torch.float16}
    for table in motion.buffers():
        torch.testing.assert_close(table, literal_positions(32, table.shape[2]))


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


# A file whose kind cannot be told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_without_tables_the_kind_must_be_said(tmp_path, kind):
    state, path = official(kind, tables=False), tmp_path / "mm.safetensors"
    assert f'pass kind="{kind}"' in refusal_of(state, path)
    motion = load_motion_module(path, kind=kind)
    assert_holds(motion, state)
    assert (motion.kind, motion.trained_length) == (kind, 32)


@pytest.mark.parametrize(("kind", "wrong"), [("v2", "v3"), ("v3", "v2")])
@pytest.mark.parametrize("tables", [True, False])
def test_a_kind_of_another_layout_is_refused(tmp_path, kind, wrong, tables):
    message = refusal_of(official(kind, tables=tables), tmp_path / "mm.safetensors", kind=wrong)
    assert f"a {kind} module; it cannot be loaded as {wrong}" in message


def test_an_unknown_kind_is_answered_with_the_known_ones(tmp_path):
    message = refusal_of(official(), tmp_path / "mm.safetensors", kind="v4")
    assert all(word in message for word in ("'v4'", *KINDS))


# Files with faults -------------------------------------------------------------------------------------------------


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
    assert f"{key} does not belong there" in refusal_of(state, tmp_path / "mm.safetensors")


@pytest.mark.filterwarnings("ignore:Initializing zero-element tensors")
@pytest.mark.parametrize("name", [f"{SITE}.proj_in.weight", f"{SITE}.proj_in.bias", f"{ATTENTION}.pos_encoder.pe"])
@pytest.mark.parametrize("shape", [(), (0,), (31,), (32, 1), (64,), (1, 16, 32), (1, 0, 32), (1, 32, 64), (2, 32, 32)])
def test_a_wrong_shape_is_named(tmp_path, name, shape):
    message = refusal_of({**official(), name: torch.zeros(shape)}, tmp_path / "mm.safetensors")
    assert f"{name} has shape {shape}" in message


def test_a_width_that_the_network_cannot_have_is_named(tmp_path):
    key = f"{SITE}.proj_in.weight"
    message = refusal_of({**official(), key: torch.zeros(33, 33)}, tmp_path / "mm.safetensors")
    assert f"{key} has shape (33, 33)" in message


def test_weights_that_are_no_floats_are_named(tmp_path):
    key = f"{SITE}.proj_in.weight"
    message = refusal_of({**official(), key: torch.zeros(32, 32, dtype=torch.int8)}, tmp_path / "mm.safetensors")
    assert f"{key} holds torch.int8" in message


def test_of_many_problems_the_first_are_named_and_the_rest_counted(tmp_path):
    state = {**official(), **{f"surplus{i}": torch.zeros(1) for i in range(10)}}
    message = refusal_of(state, tmp_path / "mm.safetensors")
    assert message.count("does not belong there") == 3
    assert "and 7 more" in message


# Files of another kind ---------------------------------------------------------------------------------------------


def renamed(state, *pairs):
    for old, new in pairs:
        state = {key.replace(old, new): tensor for key, tensor in state.items()}
    return state


def keys(*names):
    return {name: torch.zeros(4, 4) for name in names}


V1 = {key: value[:, :24].contiguous() if key.endswith(".pe") else value for key, value in official().items()}
ADAPTER = renamed(
    official(tables=False),
    (".temporal_transformer", ""),
    ("attention_blocks.0", "attn1"),
    ("attention_blocks.1", "attn2"),
    ("norms.0", "norm1"),
    ("norms.1", "norm2"),
    ("ff_norm", "norm3"),
)
CONVERTED_LORA = f"{ATTENTION}.to_q".replace(".", "_") + ".lora_{}.weight"
OTHER_WEIGHTS = {  # state dict, telling words
    "image checkpoint": (keys("model.diffusion_model.input_blocks.0.0.weight"), "no motion module"),
    "VAE": (keys("encoder.conv_in.weight", "decoder.conv_in.weight"), "no motion module"),
    "image LoRA": (keys("lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"), "no motion module"),
    "motion LoRA": (keys(f"{ATTENTION}.processor.to_q_lora.down.weight"), "a motion LoRA"),
    "converted motion LoRA": (keys(*map(CONVERTED_LORA.format, ("down", "up"))), "a motion LoRA"),
    "SDXL": ({key: t for key, t in official().items() if "blocks.3." not in key}, "SDXL"),
    "v1": (V1, "a v1 motion module"),
    "diffusers MotionAdapter": (ADAPTER, "another layout"),
    "nothing": ({}, "no motion module"),
}


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("what", OTHER_WEIGHTS)
def test_another_kind_of_weights_is_called_by_its_name(tmp_path, what, written):
    state, words = OTHER_WEIGHTS[what]
    FORMATS[written](state, tmp_path / "file.bin")
    message = refusal(tmp_path / "file.bin")
    assert words in message
    assert message.startswith("file.bin: ")


OTHER_BYTES = {  # content, telling words
    "empty": (b"", "is empty"),
    "page": (b"\n  <!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1672131\n", "LFS pointer"),
    "text": (b"Access denied. Log in first.", "Download it again"),
    "zeros": (bytes(4096), "Download it again"),
    "random": (random.Random(0).randbytes(4096), "Download it again"),
    "zip of something else": (b"PK\x03\x04" + bytes(100), "Download it again"),
    "plain pickle": (b"\x80\x04}\x8c\nstate_dict}s.", "Download it again"),
}


@pytest.mark.parametrize("what", OTHER_BYTES)
def test_what_is_no_weights_file_is_told_so(tmp_path, what):
    content, words = OTHER_BYTES[what]
    (tmp_path / "mm.ckpt").write_bytes(content)
    assert words in refusal(tmp_path / "mm.ckpt")


@pytest.mark.parametrize("name", ["missing.ckpt", "."])
def test_a_path_without_a_file_is_told_so(tmp_path, name):
    assert "Check the path" in refusal(tmp_path / name)


@pytest.mark.parametrize("written", FORMATS)
@pytest.mark.parametrize("share", [0.001, 0.5, 0.999])
def test_a_part_of_a_file_is_refused(tmp_path, written, share):
    path = tmp_path / "mm.ckpt"
    FORMATS[written](official(), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    assert "Download it again" in refusal(path)


@settings(deadline=None, max_examples=60)
@given(
    head=st.sampled_from([b"", b"PK\x03\x04", LEGACY_MAGIC, struct.pack("<Q", 40), b"<", b"\x80\x02"]),
    tail=st.binary(max_size=200),
)
@example(head=LEGACY_MAGIC, tail=b"P")  # torch's reason has several lines
def test_any_bytes_at_all_are_refused_in_one_line(tmp_path_factory, head, tail):
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(head + tail)
    refusal(path)
