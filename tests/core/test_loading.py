"""A motion module file gives exactly its tensors, runs none of its code, and what is no motion module is told so."""

from __future__ import annotations

import builtins
import io
import os
import pathlib
import pickle
import random
import struct
import subprocess
import sys
import zipfile
from types import ModuleType

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_files import literal_positions, random_motion_state
from safetensors.torch import save_file

from motion_module import MotionFileError, load_motion_module

WIDTHS = (32, 64, 32, 32)
KINDS = ("v2", "v3")
SITE = "down_blocks.0.motion_modules.0.temporal_transformer"
LEGACY_MAGIC = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)


def official(kind="v3", **more):
    return random_motion_state(kind, WIDTHS, **more)


def save(payload, path):
    torch.save(payload, path)


def save_legacy(payload, path):
    torch.save(payload, path, _use_new_zipfile_serialization=False)


PICKLES = {"zip": save, "legacy": save_legacy}


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


# What an official file may look like -------------------------------------------------------------------------------

DRESSES = {
    "bare": lambda state: state,
    "state_dict": lambda state: {"state_dict": state},
    "module": lambda state: {"module": state},
    "both": lambda state: {"state_dict": {"module": state}},
    "prefixed": lambda state: {"module." + key: tensor for key, tensor in state.items()},
    "training": lambda state: {
        "epoch": 3,
        "global_step": 1000,
        "state_dict": {"module." + key: tensor for key, tensor in state.items()},
    },
    "parameters": lambda state: {key: torch.nn.Parameter(tensor) for key, tensor in state.items()},
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_safetensors_file_gives_its_own_tensors(tmp_path, kind):
    state = official(kind)
    save_file(state, tmp_path / "mm.safetensors")
    assert_holds(load_motion_module(tmp_path / "mm.safetensors"), state)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("written", PICKLES)
def test_a_pickle_gives_the_same_tensors_in_every_dress(tmp_path, kind, dress, written):
    state = official(kind)
    PICKLES[written](DRESSES[dress](state), tmp_path / "mm.ckpt")
    assert_holds(load_motion_module(tmp_path / "mm.ckpt"), state)


@pytest.mark.parametrize("kind", KINDS)
def test_kind_schedule_and_trained_length_come_from_the_file(tmp_path, kind):
    state = official(kind)
    for key in [key for key in state if key.endswith("pos_encoder.pe")]:
        state[key] = literal_positions(64, state[key].shape[2])  # a longer table, as LongAnimateDiff has
    save_file(state, tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors")
    assert (motion.kind, motion.schedule.name, motion.trained_length) == (kind, "linear", 64)
    assert (motion.mid_block is not None) == (kind == "v2")
    assert motion.name == "mm.safetensors"
    assert not motion.training
    assert not any(weight.requires_grad for weight in motion.parameters())
    for name, transformer in motion.sites():
        for attention in transformer.transformer_blocks[0].attention_blocks:
            torch.testing.assert_close(attention.pe, literal_positions(64, transformer.proj_in.in_features), msg=name)


def test_an_fp16_file_stays_fp16(tmp_path):
    state = {key: tensor.half() for key, tensor in official("v2").items()}
    save_file(state, tmp_path / "mm.safetensors")
    motion = load_motion_module(tmp_path / "mm.safetensors")
    assert_holds(motion, state)
    assert {tensor.dtype for tensor in [*motion.parameters(), *motion.buffers()]} == {torch.float16}


@pytest.mark.parametrize("written", PICKLES)
def test_objects_of_unknown_classes_beside_the_weights_do_no_harm(tmp_path, monkeypatch, written):
    vanishing = ModuleType("vanishing_config_library")
    exec(
        "import enum\n"
        "class Node:\n    def __init__(self, **values): self.__dict__.update(values)\n"
        "class Tree(dict): pass\n"
        "class Row(list): pass\n"
        "class Bag(set): pass\n"
        "class Flag(enum.Enum):\n    ON = 1\n",
        vars(vanishing),
    )
    monkeypatch.setitem(sys.modules, vanishing.__name__, vanishing)
    tree = vanishing.Tree(node=vanishing.Node(a=[1, vanishing.Flag.ON]), row=vanishing.Row([vanishing.Node()]))
    tree.parent, key = tree, vanishing.Node(key=True)
    state = official()
    more = {"animatediff_config": tree, "bag": vanishing.Bag([key]), "nodes": {key: 1}, "class": vanishing.Node}
    PICKLES[written]({**more, "model": vanishing.Node(b=1), "state_dict": state}, tmp_path / "mm.ckpt")
    monkeypatch.delitem(sys.modules, vanishing.__name__)
    assert_holds(load_motion_module(tmp_path / "mm.ckpt"), state)
    assert vanishing.__name__ not in sys.modules


def test_it_works_where_torch_load_is_replaced(tmp_path, monkeypatch):
    state = official()
    save(state, tmp_path / "mm.ckpt")
    monkeypatch.setattr(torch, "load", lambda *_args, **_kwargs: None)  # as the WebUI does for a file it doubts
    assert_holds(load_motion_module(tmp_path / "mm.ckpt"), state)


@pytest.mark.parametrize("write", [save_file, save, save_legacy])
def test_a_loaded_module_owns_its_weights(tmp_path, write):
    state, path = official(), tmp_path / "mm"
    write(state, path)
    motion = load_motion_module(path)
    size = path.stat().st_size
    with path.open("r+b") as file:  # the very file that may be mapped
        file.write(b"\xff" * size)
    path.rename(tmp_path / "renamed").unlink()
    assert_holds(motion, state)


def test_weights_that_share_memory_in_the_file_are_apart_afterwards(tmp_path):
    state = official()
    one, other = f"{SITE}.proj_in.bias", f"{SITE}.proj_out.bias"
    state[one] = state[other] = torch.randn(64)[::2]
    save(state, tmp_path / "mm.ckpt")
    motion = load_motion_module(tmp_path / "mm.ckpt")
    assert_holds(motion, state)
    motion.state_dict()[one].zero_()
    assert torch.equal(motion.state_dict()[other], state[other])


# A file whose kind cannot be told ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_without_tables_the_kind_must_be_said(tmp_path, kind):
    state, path = official(kind, tables=False), tmp_path / "mm.safetensors"
    save_file(state, path)
    assert f'pass kind="{kind}"' in refusal(path)
    motion = load_motion_module(path, kind=kind)
    assert_holds(motion, state)
    assert (motion.kind, motion.trained_length) == (kind, 32)


@pytest.mark.parametrize("tables", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_another_layout_is_refused(tmp_path, kind, tables):
    wrong = "v2" if kind == "v3" else "v3"
    save_file(official(kind, tables=tables), tmp_path / "mm.safetensors")
    message = refusal(tmp_path / "mm.safetensors", kind=wrong)
    assert kind in message
    assert wrong in message


def test_an_unknown_kind_is_answered_with_the_known_ones(tmp_path):
    save_file(official(), tmp_path / "mm.safetensors")
    message = refusal(tmp_path / "mm.safetensors", kind="v4")
    assert all(word in message for word in ("'v4'", *KINDS))


# Files with faults -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [f"{SITE}.proj_in.weight", "up_blocks.3.motion_modules.2.temporal_transformer.norm.bias"])
def test_a_missing_key_is_named(tmp_path, key):
    state = official()
    del state[key]
    save_file(state, tmp_path / "mm.safetensors")
    assert f"{key} is missing" in refusal(tmp_path / "mm.safetensors")


@pytest.mark.parametrize(
    "part", ["down_blocks.0.motion_modules.1.", "up_blocks.1.motion_modules.0.", "up_blocks.3.", "up_blocks."]
)
def test_missing_sites_are_named(tmp_path, part):
    state = {key: tensor for key, tensor in official().items() if not key.startswith(part)}
    save_file(state, tmp_path / "mm.safetensors")
    message = refusal(tmp_path / "mm.safetensors")
    assert part in message
    assert "missing" in message


@pytest.mark.parametrize("key", ["surplus", "down_blocks.0.motion_modules.2.temporal_transformer.proj_in.weight"])
def test_a_key_too_many_is_named(tmp_path, key):
    save_file({**official(), key: torch.zeros(32, 32)}, tmp_path / "mm.safetensors")
    assert f"{key} does not belong there" in refusal(tmp_path / "mm.safetensors")


@pytest.mark.parametrize("shape", [(), (0,), (31,), (32, 1), (64,)])
@pytest.mark.parametrize("name", ["proj_in.weight", "proj_in.bias", "transformer_blocks.0.ff.net.2.weight"])
def test_a_wrong_shape_is_named(tmp_path, name, shape):
    key = f"{SITE}.{name}"
    save_file({**official(), key: torch.zeros(shape)}, tmp_path / "mm.safetensors")
    assert key in refusal(tmp_path / "mm.safetensors")


@pytest.mark.parametrize("shape", [(), (32,), (32, 32), (1, 16, 32), (1, 0, 32), (1, 32, 64), (2, 32, 32)])
def test_a_table_of_wrong_shape_is_named(tmp_path, shape):
    key = f"{SITE}.transformer_blocks.0.attention_blocks.0.pos_encoder.pe"
    save_file({**official(), key: torch.zeros(shape)}, tmp_path / "mm.safetensors")
    assert "pos_encoder.pe" in refusal(tmp_path / "mm.safetensors")


def test_weights_that_are_no_fractions_are_named(tmp_path):
    key = f"{SITE}.proj_in.weight"
    save_file({**official(), key: torch.zeros(32, 32, dtype=torch.int8)}, tmp_path / "mm.safetensors")
    assert key in refusal(tmp_path / "mm.safetensors")


def renamed(state, *pairs):
    for old, new in pairs:
        state = {key.replace(old, new): tensor for key, tensor in state.items()}
    return state


def with_table_length(length):
    state = official()
    return {key: tensor[:, :length].contiguous() if key.endswith("pe") else tensor for key, tensor in state.items()}


def motion_lora(pattern):
    return {pattern.format(part): torch.zeros(4, 4) for part in ("down", "up")}


LORA_KEY = f"{SITE}.transformer_blocks.0.attention_blocks.0.processor.to_q_lora.{{}}.weight"
TENSORS = {  # state dict, telling words
    "image checkpoint": ({"model.diffusion_model.input_blocks.0.0.weight": torch.zeros(4, 4)}, "no motion module"),
    "VAE": ({"encoder.conv_in.weight": torch.zeros(4, 4), "decoder.conv_in.weight": torch.zeros(4)}, "no motion module"),
    "image LoRA": (
        {"lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight": torch.zeros(4, 4)},
        "no motion module",
    ),
    "motion LoRA": (motion_lora(LORA_KEY), "a motion LoRA"),
    "converted motion LoRA": (
        motion_lora(SITE.replace(".", "_") + "_transformer_blocks_0_attention_blocks_0_to_q.lora_{}.weight"),
        "a motion LoRA",
    ),
    "SDXL": ({key: t for key, t in official().items() if not key[:13].endswith("blocks.3.m")}, "SDXL"),
    "v1": (with_table_length(24), "v1"),
    "diffusers MotionAdapter": (
        renamed(
            official(tables=False),
            (".temporal_transformer", ""),
            ("attention_blocks.0", "attn1"),
            ("attention_blocks.1", "attn2"),
            ("norms.0", "norm1"),
            ("norms.1", "norm2"),
            ("ff_norm", "norm3"),
        ),
        "another layout",
    ),
    "odd width": ({f"{SITE}.proj_in.weight": torch.zeros(33, 33), f"{SITE}.norm.bias": torch.zeros(33)}, "33"),
    "nothing": ({}, "no motion module"),
}
TENSORS["SDXL"] = (
    {k: t for k, t in official().items() if not k.startswith(("down_blocks.3.", "up_blocks.3."))},
    "SDXL",
)


@pytest.mark.parametrize("write", [save_file, save, save_legacy])
@pytest.mark.parametrize("what", TENSORS)
def test_another_kind_of_weights_is_called_by_its_name(tmp_path, what, write):
    state, word = TENSORS[what]
    write(state, tmp_path / "file.bin")
    message = refusal(tmp_path / "file.bin")
    assert word in message
    assert "file.bin" in message


BYTES = {  # content, telling words
    "empty": (b"", "is empty"),
    "page": (b"\n  <!DOCTYPE html>\n<html><body>404</body></html>", "web page"),
    "shouted page": (b"<HTML><BODY>Not found", "web page"),
    "xml": (b'<?xml version="1.0"?><Error/>', "web page"),
    "LFS pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1672131\n", "LFS pointer"),
    "text": (b"Access denied. Log in first.", "Download it again"),
    "zeros": (bytes(4096), "Download it again"),
    "random": (random.Random(0).randbytes(4096), "Download it again"),
    "zip of something else": (b"PK\x03\x04" + bytes(100), "Download it again"),
    "cut legacy pickle": (LEGACY_MAGIC, "Download it again"),
    "plain pickle": (pickle.dumps({"state_dict": {}}), "Download it again"),
}


@pytest.mark.parametrize("what", BYTES)
def test_what_is_no_weights_file_is_told_so(tmp_path, what):
    content, word = BYTES[what]
    (tmp_path / "mm.ckpt").write_bytes(content)
    assert word in refusal(tmp_path / "mm.ckpt")


def test_a_path_without_a_file_is_told_so(tmp_path):
    assert "Check the path" in refusal(tmp_path / "missing.ckpt")
    assert "Check the path" in refusal(tmp_path)


@pytest.mark.parametrize("write", [save_file, save, save_legacy])
@pytest.mark.parametrize("share", [0.001, 0.1, 0.5, 0.999])
def test_half_a_file_is_refused(tmp_path, write, share):
    path = tmp_path / "mm.ckpt"
    write(official(), path)
    os.truncate(path, int(path.stat().st_size * share))
    assert "Download it again" in refusal(path)


@settings(deadline=None, max_examples=60)
@given(
    head=st.sampled_from([b"", b"PK\x03\x04", LEGACY_MAGIC, struct.pack("<Q", 40), b"<", b"\x80\x02"]),
    tail=st.binary(max_size=200),
)
def test_any_bytes_at_all_are_refused_in_one_line(tmp_path_factory, head, tail):
    path = tmp_path_factory.getbasetemp() / "fuzz.ckpt"
    path.write_bytes(head + tail)
    refusal(path)


def test_a_header_length_that_looks_like_a_page_is_none(tmp_path):
    """A safetensors file opens with its header's length: 0x3C20 reads " <"."""
    state, path = official(), tmp_path / "mm.safetensors"
    save_file(state, path)
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    wanted = 0x3C20 + (-(-(length - 0x3C20) // 0x10000) if length > 0x3C20 else 0) * 0x10000
    header = content[8 : 8 + length].ljust(wanted)
    path.write_bytes(struct.pack("<Q", wanted) + header + content[8 + length :])
    assert path.read_bytes()[:2] == b" <"
    assert_holds(load_motion_module(path), state)


def test_a_payload_that_holds_itself_ends(tmp_path):
    payload = {"epoch": 1}
    payload["state_dict"] = payload
    save(payload, tmp_path / "mm.ckpt")
    assert "no motion module" in refusal(tmp_path / "mm.ckpt")


# Hostile files -----------------------------------------------------------------------------------------------------


class Call:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def nested(function, *args):
    buffer = io.BytesIO()
    save_legacy(Call(function, *args), buffer)
    return buffer.getvalue()


def hub_folder(marker):
    (marker.parent / "hubconf.py").write_text(f"def entry():\n    open({str(marker)!r}, 'w')\n")
    return str(marker.parent)


ATTACKS = {
    "os.system": lambda marker: Call(os.system, f"touch '{marker}'"),
    "subprocess": lambda marker: Call(subprocess.call, ["touch", str(marker)]),
    "eval": lambda marker: Call(builtins.eval, f"open({str(marker)!r}, 'w')"),
    "exec": lambda marker: Call(builtins.exec, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: Call(builtins.open, str(marker), "w"),
    "method": lambda marker: Call(pathlib.Path.touch, marker),
    "torch.save": lambda marker: Call(torch.save, 0, str(marker)),
    "torch.hub": lambda marker: Call(torch.hub._load_local, hub_folder(marker), "entry"),
    "nested": lambda marker: Call(torch.storage._load_from_bytes, nested(os.system, f"touch '{marker}'")),
}


@pytest.mark.parametrize("written", PICKLES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_code_of_a_pickle_is_run(tmp_path, attack, written):
    marker, path, state = tmp_path / "marker", tmp_path / "mm.ckpt", official()
    PICKLES[written]({"evil": ATTACKS[attack](marker), "state_dict": state}, path)
    assert_holds(load_motion_module(path), state)
    assert not marker.exists()
    import contextlib

    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists(), "the attack is none, so this test shows nothing"


def rewritten(path, data_pkl):
    """The same archive with another pickle inside."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data_pkl if name.endswith("/data.pkl") else content)


OPCODES = {
    "global": b"cos\nsystem\n(S'touch %s'\ntR.",
    "instance": b"(S'touch %s'\nios\nsystem\n.",
    "dotted": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93\x8c%c%s\x85R.",
    "object": b"(cos\nsystem\nS'touch %s'\no.",
}


@pytest.mark.parametrize("opcodes", OPCODES)
def test_no_opcode_of_a_pickle_is_a_way_out(tmp_path, opcodes):
    marker, path = tmp_path / "marker", tmp_path / "mm.ckpt"
    save({}, path)
    text = str(marker).encode()
    command = (len(text) + 6, b"touch " + text) if opcodes == "dotted" else (text,)
    rewritten(path, OPCODES[opcodes] % command)
    refusal(path)
    assert not marker.exists()


def hostile_legacy_file(path, pickled):
    """A legacy file whose own pickle, which follows the magic number, the version and the system, is given raw."""
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
    head = b"".join(pickle.dumps(thing, protocol=2) for thing in (0x1950A86A20F9469CFC6C, 1001, system))
    path.write_bytes(head + pickled + pickle.dumps([], protocol=2))


def test_a_pickle_cannot_change_the_functions_that_it_may_call(tmp_path):
    """BUILD sets attributes on whatever lies on the stack; torch then wrote a "source patch" under a chosen name."""
    rebuild, marker = torch._utils._rebuild_tensor_v2, tmp_path / "marker"
    before = (rebuild.__name__, rebuild.__defaults__, dict(vars(rebuild)))
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    renamed = b"(N(dS'__name__'\nS'%s'\nsS'dump_patches'\nI01\nstb" % str(marker).encode()
    container = b"(S'module'\n%sS'file'\nS'another source'\ntQ" % (function + renamed)
    path = tmp_path / "mm.ckpt"
    hostile_legacy_file(path, container + b".")
    try:
        refusal(path)
        assert (rebuild.__name__, rebuild.__defaults__, dict(vars(rebuild))) == before
        assert [child.name for child in tmp_path.iterdir()] == ["mm.ckpt"]
    finally:
        rebuild.__name__ = before[0]
        vars(rebuild).pop("dump_patches", None)


@pytest.fixture(scope="module")
def torchscript(tmp_path_factory):
    class Program(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    path = tmp_path_factory.mktemp("script") / "script.pt"
    torch.jit.save(torch.jit.script(Program()), str(path))
    return path


def test_a_torchscript_program_is_refused(torchscript):
    assert "TorchScript" in refusal(torchscript)


def test_a_torchscript_program_with_two_faces_is_not_run(tmp_path, torchscript, monkeypatch):
    """One directory of members for Python's zipfile, which trusts its place, another for torch, which trusts a number."""
    content = torchscript.read_bytes()
    end = content.rindex(b"PK\x05\x06")
    with zipfile.ZipFile(torchscript) as archive:
        start, count = archive.start_dir, len(archive.namelist())
    directory = content[start : content.index(b"PK\x06\x06", start) if b"PK\x06\x06" in content[start:] else end]
    harmless = directory.replace(b"constants.pkl", b"constantz.pkl")
    tail = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
    path = tmp_path / "mm.ckpt"
    path.write_bytes(content[:start] + directory + harmless + tail)
    runs = []
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: runs.append(args))
    refusal(path)
    assert not runs
