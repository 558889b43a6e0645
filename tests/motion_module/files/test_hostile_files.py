"""A motion module file runs no code and changes nothing outside itself, whatever it holds."""

from __future__ import annotations

import builtins
import contextlib
import io
import os
import pickle
import struct
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.matrix import every_once
from support.motion_files import LEGACY_HEAD, PICKLES, official_sites, random_motion_state, save_legacy, site_shapes

from motion_module import MotionFileError, inspect_motion_file, load_motion_lora, load_motion_module

ROOT = Path(__file__).parents[3]


class Call:
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


def assert_only_torch_makes(marker, path):
    assert not marker.exists()
    with contextlib.suppress(Exception):
        torch.load(path, weights_only=False)
    assert marker.exists(), "the attack is none, so this test shows nothing"


@pytest.mark.parametrize(("attack", "written"), every_once(ATTACKS, PICKLES))
def test_no_code_of_a_pickle_is_run(tmp_path, attack, written):
    marker, path, state = tmp_path / "marker", tmp_path / "mm.ckpt", random_motion_state("v3")
    PICKLES[written]({"evil": ATTACKS[attack](marker), "state_dict": state}, path)
    loaded = load_motion_module(path).state_dict()
    assert all(torch.equal(tensor, state[key]) for key, tensor in loaded.items())
    assert_only_torch_makes(marker, path)


def with_pickle(path, pickled, compression=zipfile.ZIP_STORED):
    """An archive as torch writes it, with this pickle inside."""
    torch.save({}, path)
    members = members_of(path)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            own = name.endswith("/data.pkl")
            archive.writestr(name, pickled if own else content, compress_type=compression if own else None)


def members_of(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


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
    assert_only_torch_makes(marker, path)


def test_a_pickle_cannot_change_the_functions_that_it_may_call(tmp_path):
    """BUILD sets attributes on what lies on the stack; torch then writes a "source patch" to a file of that name."""
    rebuild, marker, path = torch._utils._rebuild_tensor_v2, tmp_path / "marker", tmp_path / "mm.ckpt"
    before = (rebuild.__name__, dict(vars(rebuild)))
    state = b"(dS'__name__'\nS'%s'\nsS'dump_patches'\nI01\nsS'_function'\nNs" % bytes(marker)
    altered = b"ctorch._utils\n_rebuild_tensor_v2\n(N%stb" % state
    container = b"(S'module'\n%sS'file'\nS'another source'\ntQ." % altered
    path.write_bytes(LEGACY_HEAD + container + pickle.dumps([]))
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


STORAGE = b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
CPU = b"X\x03\x00\x00\x00cpu"
DEEP = b"N" + b"\x85" * 300_000  # a tuple in a tuple in ...
WIDE = b"(" + b"K\x01" * 100_000 + b"tq\x00"  # a tuple of 100,000
EMPTY = b"\x80\x02"
HARMFUL = {  # pickles, by what they do
    "key": EMPTY + b"}" + DEEP + b"Ns.",
    "keys": EMPTY + b"}(" + DEEP + b"Nu.",
    "key of a DICT": EMPTY + b"(" + DEEP + b"Nd.",
    "item of a set": b"\x80\x04\x8f(" + DEEP + b"\x90.",
    "frozenset": b"\x80\x04(" + DEEP + b"\x91.",
    "item of an OrderedDict": EMPTY + b"ccollections\nOrderedDict\n]]" + DEEP + b"aNaa\x85R.",
    "key of a storage": EMPTY + STORAGE + DEEP + CPU + b"K\x01tQ.",
    "doubled key of a storage": EMPTY + STORAGE + b"N" + b"2\x86" * 40 + CPU + b"K\x01tQ.",
    "module": EMPTY + b"ctorch\n_dynamo\n.",
    "memo": EMPTY + b"}r" + (1 << 31).to_bytes(4, "little") + b".",
    "marks": EMPTY + b"(" * 30_000_000 + b".",
    "dictionaries": EMPTY + b"}" * 30_000_000 + b".",
    "sizes": EMPTY + WIDE + b"0" + b"ctorch\nSize\nh\x00\x85R" * 50_000 + b".",
    "shapes": EMPTY + WIDE + b"0" + b"ctorch._utils\n_rebuild_tensor_v2\n(NK\x00h\x00tR" * 20_000 + b".",
    "bytes": b"\x80\x04\x8e" + (1 << 36).to_bytes(8, "little") + b".",
    "line": EMPTY + b"c" + b"x" * 20_000_000,
    "number": EMPTY + b"}(I" + b"9" * 50_000 + b"\nNd.",
}
LEGACY = ("key", "bytes", "line")
INSPECT = """
import resource, sys
from pathlib import Path
from motion_module import MotionFileError, load_motion_lora
resource.setrlimit(resource.RLIMIT_AS, (6 << 30, 6 << 30))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        sys.exit(load_motion_lora(path))  # looks at the header first, as inspecting does, then has torch load the rest
    except MotionFileError:
        pass
    print(path.name, flush=True)
assert "torch._dynamo" not in sys.modules
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10)
"""


def test_no_small_file_crashes_the_program_or_fills_the_memory(tmp_path):
    """In a process of its own, which may crash."""
    pytest.importorskip("resource")
    for name, pickled in HARMFUL.items():
        with_pickle(tmp_path / f"{name}.ckpt", pickled)
        if name in LEGACY:
            (tmp_path / f"{name} legacy.ckpt").write_bytes(LEGACY_HEAD + pickled)
    with_pickle(tmp_path / "inflated.ckpt", EMPTY + b"}" + b"0}" * 40_000_000 + b".", zipfile.ZIP_DEFLATED)
    told = subprocess.run([sys.executable, "-c", INSPECT, tmp_path], cwd=ROOT, capture_output=True, text=True)
    assert told.returncode == 0, f"after {told.stdout.splitlines()[-1:]}: {told.stderr[-500:]}"
    *files, megabytes = told.stdout.splitlines()
    assert len(files) == len(HARMFUL) + len(LEGACY) + 1
    assert int(megabytes) < 1000


def test_one_dictionary_under_many_names_is_not_copied(tmp_path):
    inner = {str(number): torch.zeros(1) for number in range(400)}
    torch.save({str(number): inner for number in range(400)}, tmp_path / "mm.ckpt")
    assert "too many tensors" in inspect_motion_file(tmp_path / "mm.ckpt").problem


def test_weights_that_the_file_has_no_room_for_are_refused(tmp_path):
    """All of them views on one number: whoever copies them needs terabytes."""
    one, widths = torch.zeros(1), (320_000,) * 4
    names = [(site, name, shape) for site, c in official_sites("v3", widths) for name, shape in site_shapes(c).items()]
    state = {f"{site}.temporal_transformer.{name}": one.expand(shape) for site, name, shape in names}
    for written in PICKLES.values():
        written(state, tmp_path / "mm_v3.ckpt")
        assert "more weights than" in inspect_motion_file(tmp_path / "mm_v3.ckpt").problem
        for load in (load_motion_module, load_motion_lora):
            with pytest.raises(MotionFileError, match="more weights than fit into it"):
                load(tmp_path / "mm_v3.ckpt")


def test_a_storage_that_is_larger_than_the_file_is_refused(tmp_path):
    pid = STORAGE + b"X\x01\x00\x00\x000" + CPU + b"J\xff\xff\xff\x7ftQ"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(" + pid + b"K\x00K\x01\x85K\x01\x85\x89}tR"
    with_pickle(tmp_path / "mm.ckpt", EMPTY + b"}X\x01\x00\x00\x00a" + tensor + b"s.")
    assert "interrupted, or the file is damaged" in inspect_motion_file(tmp_path / "mm.ckpt").problem


def test_a_file_packed_once_more_is_told_so(tmp_path):
    """Torch would map the packed bytes as weights."""
    torch.save(random_motion_state("v3"), tmp_path / "mm.ckpt")
    members = members_of(tmp_path / "mm.ckpt")
    with zipfile.ZipFile(tmp_path / "mm.ckpt", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    with pytest.raises(MotionFileError, match="compressed archive of weights"):
        load_motion_module(tmp_path / "mm.ckpt")


def test_a_tar_archive_that_begins_as_weights_do_is_not_unpacked(tmp_path, monkeypatch):
    """Torch looks for a tar first, whatever the file begins with, and would take `storages` out of it: a pipe, say."""
    magic = pickle.dumps(0x1950A86A20F9469CFC6C, protocol=2)
    name = magic + pickle.dumps(1001, protocol=2) + EMPTY + b"}." + EMPTY + b"}." + EMPTY + b"]."
    with tarfile.open(tmp_path / "lora.ckpt", "w", encoding="latin-1", format=tarfile.USTAR_FORMAT) as archive:
        for member in (name.decode("latin-1"), "storages"):
            archive.addfile(tarfile.TarInfo(member))
    monkeypatch.setattr(tarfile.TarFile, "extract", lambda *_args, **_kwargs: pytest.fail("it was unpacked"))
    assert inspect_motion_file(tmp_path / "lora.ckpt").what == "a tar archive"
    with pytest.raises(MotionFileError, match="a tar archive"):
        load_motion_lora(tmp_path / "lora.ckpt")


def test_a_payload_that_holds_itself_ends(tmp_path):
    payload = {"epoch": 1}
    payload["state_dict"] = payload
    torch.save(payload, tmp_path / "mm.ckpt")
    with pytest.raises(MotionFileError, match="no weights"):
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


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_refused_and_one_with_two_faces_is_not_run(tmp_path, monkeypatch):
    """Two directories of members: Python's zipfile trusts a place in the file, torch's reader a number."""
    torchscript = tmp_path / "script.pt"
    torch.jit.save(torch.jit.trace(torch.nn.Identity(), torch.zeros(1)), str(torchscript))
    assert inspect_motion_file(torchscript).what == "a TorchScript program"
    with pytest.raises(MotionFileError, match="TorchScript"):
        load_motion_module(torchscript)
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
