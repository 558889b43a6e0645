"""Inspecting a file reads its header only, however large it is."""

from __future__ import annotations

import io
import json
import pickle
import struct
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import LEGACY_HEAD, PICKLES, SD15_WIDTHS, official_sites, random_motion_state, site_shapes

from motion_module import MotionFileError, MotionFileInfo, inspect_motion_file, load_motion_module
from motion_module.kinds import KINDS

OFFICIAL_PARAMETERS = {"v2": 453_209_280, "v3": 417_137_600}  # as published
WIDTHS = (32,) * 4


@pytest.fixture
def path(tmp_path):
    return tmp_path / "mm.safetensors"


def official_shapes(kind, length=32):
    """Names and shapes of the published file."""
    shapes = {}
    for site, width in official_sites(kind, SD15_WIDTHS):
        prefix = f"{site}.temporal_transformer"
        shapes |= {f"{prefix}.{name}": shape for name, shape in site_shapes(width).items()}
        for i in range(2):
            shapes[f"{prefix}.transformer_blocks.0.attention_blocks.{i}.pos_encoder.pe"] = (1, length, width)
    return shapes


def size_of(shape):
    return 4 * torch.Size(shape).numel()


def write_hollow_safetensors(path, shapes):
    """A float32 file with a hole in the place of the numbers: as large as the real one, and no work to write."""
    header, end = {}, 0
    for name, shape in shapes.items():
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size_of(shape)]}
        end += size_of(shape)
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(file.tell() + end)


class Storage:
    def __init__(self, name, numel):
        self.name, self.numel = name, numel


class Hollow:
    """Pickles as a tensor whose numbers are elsewhere."""

    def __init__(self, name, shape):
        strides = torch.empty(shape, device="meta").stride()
        self.args = (Storage(name, size_of(shape) // 4), 0, shape, strides, False, {})

    def __reduce__(self):
        return torch._utils._rebuild_tensor_v2, self.args


class HollowPickler(pickle.Pickler):
    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            return ("storage", torch.FloatStorage, thing.name, "cpu", thing.numel, None)
        return None


def write_hollow_legacy(path, shapes, *, missing=0):
    """The same as torch wrote before 1.6, a few bytes shorter if asked."""
    buffer = io.BytesIO()
    buffer.write(LEGACY_HEAD)
    HollowPickler(buffer, protocol=2).dump({name: Hollow(name, shape) for name, shape in shapes.items()})
    pickle.dump(list(shapes), buffer, protocol=2)
    with path.open("wb") as file:
        file.write(buffer.getvalue())
        file.truncate(file.tell() + sum(8 + size_of(shape) for shape in shapes.values()) - missing)


@contextmanager
def reading_less_than(limit):
    """Of this block: what is read by calls, and what of a mapped file is looked at (by page faults of 4 KB or more)."""
    resource = pytest.importorskip("resource")
    counter = Path("/proc/self/io")
    if not counter.exists():
        pytest.skip("this system does not count what is read")

    def read():
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return int(counter.read_text().split()[1]), 4096 * (usage.ru_minflt + usage.ru_majflt)

    before = read()
    yield
    by_calls, by_faults = (now - then for now, then in zip(read(), before, strict=True))
    assert by_calls < limit, f"{by_calls} bytes were read"
    assert by_faults < limit, f"{by_faults} bytes were looked at"


HOLLOW = {"safetensors": write_hollow_safetensors, "legacy": write_hollow_legacy}


@pytest.mark.parametrize("written", HOLLOW)
@pytest.mark.parametrize("kind", OFFICIAL_PARAMETERS)
def test_a_file_of_the_published_size_is_told_without_reading_it(tmp_path, kind, written):
    path = tmp_path / "mm.ckpt"
    HOLLOW[written](path, official_shapes(kind))
    save_file(random_motion_state("v3", WIDTHS), tmp_path / "small.safetensors")
    inspect_motion_file(tmp_path / "small.safetensors")  # torch imports parts of itself at the first time
    assert path.stat().st_size > 1.6e9
    with reading_less_than(40_000_000):
        info = inspect_motion_file(path)
    parameters, schedule = OFFICIAL_PARAMETERS[kind], KINDS[kind].schedule
    container = {"safetensors": "safetensors", "legacy": "pickle"}[written]
    told = {"kind": kind, "base": "sd15", "parameters": parameters, "trained_length": 32, "schedule": schedule}
    told |= {"format": "official", "container": container, "dtype": "float32", "hint": ""}
    told |= {"widths": (320, 640, 1280, 1280)}
    assert info == MotionFileInfo(name="mm.ckpt", what="a motion module", problem=None, **told)


def test_of_an_archive_only_the_directory_and_the_pickle_are_read(tmp_path):
    path = tmp_path / "mm.ckpt"
    torch.save(random_motion_state("v2", (64, 128, 128, 128)), path)
    size = path.stat().st_size
    assert size > 10_000_000
    inspect_motion_file(path)
    with reading_less_than(size / 2):
        assert inspect_motion_file(path).kind == "v2"


def test_a_legacy_file_that_ends_too_early_is_told_by_its_size(tmp_path):
    write_hollow_legacy(tmp_path / "mm.ckpt", official_shapes("v3"), missing=1)
    assert "not a complete weights file" in inspect_motion_file(tmp_path / "mm.ckpt").problem


@pytest.mark.parametrize("written", PICKLES)
def test_a_pickle_cannot_alter_what_is_told_about_its_tensors(tmp_path, written):
    """BUILD sets attributes of what lies on the stack, here of the description of a tensor."""

    class Altered(torch.nn.Parameter):
        def __reduce_ex__(self, protocol):
            function, args = torch.zeros(2).__reduce_ex__(protocol)
            return function, args, {"shape": (32, 32), "dtype": "float16"}

    PICKLES[written]({"layer.weight": Altered(torch.zeros(2))}, tmp_path / "mm.ckpt")
    assert inspect_motion_file(tmp_path / "mm.ckpt").problem


def test_a_dtype_is_that_of_most_weights(path):
    state = random_motion_state("v3", WIDTHS)
    for dtype, end in {"float32": "proj.weight", "float16": "weight"}.items():
        save_file({key: tensor.half() if key.endswith(end) else tensor for key, tensor in state.items()}, path)
        assert inspect_motion_file(path).dtype == dtype


def test_the_kind_may_be_said_as_in_loading(path):
    save_file(random_motion_state("lcm", WIDTHS, tables=False), path)
    assert "its kind is ambiguous" in inspect_motion_file(path).problem
    info = inspect_motion_file(path, kind="lcm")
    assert (info.kind, info.trained_length) == ("lcm", 64)
    assert "LCM sampler" in info.hint


def save_with_metadata(path, layout, kind, length):
    said = {"lib_animatediff_kind": kind, "lib_animatediff_trained_length": length}
    save_file(random_motion_state(layout, WIDTHS, tables=False), path, said)


def test_a_kind_that_metadata_names_is_believed_where_the_layout_allows(path):
    for stated, kind in {"lcm": "lcm", "v2": "v2", "v3": None, "nonsense": None}.items():
        save_with_metadata(path, "lcm", stated, "48")
        info = inspect_motion_file(path)
        assert (info.kind, info.trained_length) == (kind, 48 if kind else None)


@pytest.mark.parametrize("length", ["", "-3", "1e9", "0", "٣"])
def test_a_length_that_makes_no_sense_is_not_believed(path, length):
    save_with_metadata(path, "v3", "v3", length)
    assert inspect_motion_file(path).trained_length == 32


@pytest.mark.parametrize("length", ["1025", "99999", "9" * 5000])
def test_a_length_beyond_all_motion_modules_is_refused(path, length):
    """A table of that length is made when the file is loaded."""
    save_with_metadata(path, "v3", "v3", length)
    assert "more than 1024 frames" in inspect_motion_file(path).problem
    with pytest.raises(MotionFileError, match="more than 1024 frames"):
        load_motion_module(path)
