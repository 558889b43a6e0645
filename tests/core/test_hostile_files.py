"""A motion module file runs no code and changes nothing outside itself, whatever it holds."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import pickle
import struct
import zipfile

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from motion_files import PICKLES, random_motion_state, save_legacy

from motion_module import MotionFileError, load_motion_module


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
    "eval": lambda marker: Call(builtins.eval, f"open({str(marker)!r}, 'w')"),
    "open": lambda marker: Call(builtins.open, str(marker), "w"),
    "torch.hub": lambda marker: Call(torch.hub._load_local, hub_folder(marker), "entry"),
    "nested": lambda marker: Call(torch.storage._load_from_bytes, nested(os.system, f"touch '{marker}'")),
}


@pytest.mark.parametrize("written", PICKLES)
@pytest.mark.parametrize("attack", ATTACKS)
def test_no_code_of_a_pickle_is_run(tmp_path, attack, written):
    marker, path, state = tmp_path / "marker", tmp_path / "mm.ckpt", random_motion_state("v3")
    PICKLES[written]({"evil": ATTACKS[attack](marker), "state_dict": state}, path)
    loaded = load_motion_module(path).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists(), "the attack is none, so this test shows nothing"


def with_pickle(path, pickled):
    """An archive as torch writes it, with this pickle inside."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, pickled if name.endswith("/data.pkl") else content)


OPCODES = {
    "GLOBAL REDUCE": b"cos\nsystem\n(S'%s'\ntR.",
    "INST": b"(S'%s'\nios\nsystem\n.",
    "OBJ": b"(cos\nsystem\nS'%s'\no.",
    "STACK_GLOBAL with a dotted name": b"\x80\x04\x8c\x05torch\x8c\x09os.system\x93(S'%s'\ntR.",
}


@pytest.mark.parametrize("opcodes", OPCODES)
def test_no_opcode_of_a_pickle_is_a_way_out(tmp_path, opcodes):
    marker, path = tmp_path / "marker", tmp_path / "mm.ckpt"
    with_pickle(path, OPCODES[opcodes] % f"touch {marker}".encode())
    with pytest.raises(MotionFileError):
        load_motion_module(path)
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists(), "the attack is none, so this test shows nothing"


def test_a_pickle_cannot_change_the_functions_that_it_may_call(tmp_path):
    """BUILD sets attributes on what lies on the stack; torch then writes a "source patch" to a file of that name."""
    rebuild, marker, path = torch._utils._rebuild_tensor_v2, tmp_path / "marker", tmp_path / "mm.ckpt"
    before = (rebuild.__name__, dict(vars(rebuild)))
    state = b"(dS'__name__'\nS'%s'\nsS'dump_patches'\nI01\nsS'_function'\nNs" % bytes(marker)
    altered = b"ctorch._utils\n_rebuild_tensor_v2\n(N%stb" % state
    container = b"(S'module'\n%sS'file'\nS'another source'\ntQ." % altered
    head = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
    path.write_bytes(b"".join(pickle.dumps(thing, protocol=2) for thing in head) + container + pickle.dumps([]))
    try:
        with pytest.raises(MotionFileError):
            load_motion_module(path)
        assert (rebuild.__name__, dict(vars(rebuild))) == before
        assert list(tmp_path.iterdir()) == [path]
    finally:
        rebuild.__name__ = before[0]
        vars(rebuild).clear()
    torch.save(random_motion_state("v3"), path)
    assert load_motion_module(path).kind == "v3"


def test_a_payload_that_holds_itself_ends(tmp_path):
    payload = {"epoch": 1}
    payload["state_dict"] = payload
    torch.save(payload, tmp_path / "mm.ckpt")
    with pytest.raises(MotionFileError, match="no motion module"):
        load_motion_module(tmp_path / "mm.ckpt")


@settings(deadline=None, max_examples=100)
@given(written=st.sampled_from([*PICKLES]), place=st.floats(0, 1), patch=st.binary(min_size=1, max_size=8))
def test_a_damaged_pickle_is_refused(tmp_path_factory, written, place, patch):
    path = tmp_path_factory.getbasetemp() / "damaged.ckpt"
    PICKLES[written]({"weight": torch.ones(2, 2)}, path)
    content = bytearray(path.read_bytes())
    start = int(place * len(content))
    content[start : start + len(patch)] = patch
    path.write_bytes(content)
    with pytest.raises(MotionFileError):
        load_motion_module(path)


@pytest.fixture(scope="module")
def torchscript(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "script.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), str(path))
    return path


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused(torchscript):
    with pytest.raises(MotionFileError, match="TorchScript"):
        load_motion_module(torchscript)


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_program_with_two_faces_is_not_run(tmp_path, torchscript, monkeypatch):
    """Two directories of members: Python's zipfile trusts a place in the file, torch's reader a number."""
    content = torchscript.read_bytes()
    with zipfile.ZipFile(torchscript) as archive:
        start, count = archive.start_dir, len(archive.namelist())
    ends = [place for mark in (b"PK\x06\x06", b"PK\x05\x06") if (place := content.find(mark, start)) >= 0]
    directory = content[start : min(ends)]
    harmless = directory.replace(b"constants.pkl", b"constantz.pkl")
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, count, count, len(directory), start, 0)
    path = tmp_path / "mm.ckpt"
    path.write_bytes(content[:start] + directory + harmless + end)
    with zipfile.ZipFile(path) as archive:
        assert not any(name.endswith("constants.pkl") for name in archive.namelist())
    runs = []
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: runs.append(args))
    with pytest.raises(MotionFileError):
        load_motion_module(path)
    assert not runs
