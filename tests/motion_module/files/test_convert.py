"""A converted file holds the same tensors, is recognised again, and is whole or not there."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support import motion_files
from support.matrix import in_matrix
from support.motion_files import PICKLES, TABLE_LENGTHS, as_adapter, random_motion_state
from support.motion_states import KINDS, WIDTHS, official

from motion_module import MotionFileError, convert_motion_file, inspect_motion_file, load_motion_module

TARGETS = {"official": "a.safetensors", "adapter": "a"}
WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def source(tmp_path):
    save_file(official(), tmp_path / "mm.safetensors")
    return tmp_path / "mm.safetensors"


def same(one, other):
    assert set(one) == set(other)
    for key, tensor in one.items():
        assert tensor.dtype == other[key].dtype, key
        assert torch.equal(tensor.double(), other[key].double()), key
    return True


def metadata_of(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


SOURCES = {
    "official": lambda state: state,
    "whole UNet": motion_files.in_whole_unet,
    "HotShot-XL": motion_files.as_hotshot,
    "AnimateLCM": motion_files.as_animatelcm,
    "MotionAdapter": as_adapter,
    "prefixed": lambda state: {f"module.{key}": tensor for key, tensor in state.items()},
}
OWN = {"HotShot-XL": "hotshot", "AnimateLCM": "lcm"}


@pytest.mark.parametrize(
    ("kind", "source"),
    [
        (kind, source) if source in OWN or number in (0, 1 + place) else in_matrix(kind, source)
        for place, kind in enumerate(KINDS)
        for number, source in enumerate(SOURCES)
        if OWN.get(source, kind) == kind
    ],
)
def test_every_format_converts_to_the_same_file(tmp_path, kind, source):
    """The same tensors and metadata: what can be done with one of them can be done with all."""
    save_file(SOURCES[source](official(kind)), tmp_path / "mm.safetensors")
    convert_motion_file(tmp_path / "mm.safetensors", tmp_path / "a.safetensors", kind=kind)
    assert same(load_file(tmp_path / "a.safetensors"), official(kind))
    said = {"lib_animatediff_kind": kind, "lib_animatediff_trained_length": str(TABLE_LENGTHS[kind])}
    assert metadata_of(tmp_path / "a.safetensors") == {"format": "pt", **said}


@pytest.mark.parametrize("written", PICKLES)
def test_a_pickle_converts_to_the_same_tensors(tmp_path, written):
    state, norm, shared = official("v2"), "down_blocks.0.motion_modules.0.temporal_transformer.norm", torch.randn(64)
    state |= {f"{norm}.{part}": shared[::2] for part in ("weight", "bias")}  # as torch may store them
    PICKLES[written]({"state_dict": state, "epoch": 1}, tmp_path / "mm.ckpt")
    convert_motion_file(tmp_path / "mm.ckpt", tmp_path / "a.safetensors")
    assert same(load_file(tmp_path / "a.safetensors"), state)


@pytest.mark.parametrize("name", ["float16", "bfloat16", "float8_e4m3fn", "float8_e5m2"])
@pytest.mark.parametrize("to", TARGETS)
def test_each_precision_stays(tmp_path, name, to):
    state = {key: tensor.to(getattr(torch, name)) for key, tensor in official().items()}
    save_file(state, tmp_path / "mm.safetensors")
    convert_motion_file(tmp_path / "mm.safetensors", tmp_path / TARGETS[to], to=to)
    back = tmp_path / TARGETS[to] / ("" if to == "official" else WEIGHTS)
    assert same(load_file(back), state if to == "official" else as_adapter(state))


@pytest.mark.parametrize("kind", KINDS)
def test_missing_tables_are_written(tmp_path, kind):
    save_file(official(kind, tables=False), tmp_path / "mm.safetensors")
    convert_motion_file(tmp_path / "mm.safetensors", tmp_path / "a.safetensors", kind=kind)
    written = load_file(tmp_path / "a.safetensors")
    assert set(written) == set(official(kind))
    for key, tensor in official(kind).items():
        torch.testing.assert_close(written[key], tensor, atol=1e-6 if key.endswith(".pe") else 0, rtol=0)
    assert load_motion_module(tmp_path / "a.safetensors").kind == kind


def test_metadata_is_kept_and_kind_and_length_are_added(tmp_path):
    said = {"format": "pt", "lib_animatediff_training": '{"steps": 3}', "title": "waves"}
    save_file(random_motion_state("v1", WIDTHS, length=20), tmp_path / "mm.safetensors", said)
    convert_motion_file(tmp_path / "mm.safetensors", tmp_path / "a.safetensors", kind="v1")
    wanted = {**said, "lib_animatediff_kind": "v1", "lib_animatediff_trained_length": "20"}
    assert metadata_of(tmp_path / "a.safetensors") == wanted
    # Another program may drop the tables.
    save_file(official("v1", tables=False), tmp_path / "bare.safetensors", wanted)
    info = inspect_motion_file(tmp_path / "bare.safetensors")
    assert (info.kind, info.trained_length) == ("v1", 20)


@pytest.mark.parametrize("kind", [kind if kind in ("v1", "v2", "sdxl") else in_matrix(kind) for kind in KINDS])
def test_diffusers_loads_the_folder_and_writes_one_that_we_load(tmp_path, kind):
    diffusers = pytest.importorskip("diffusers")
    save_file(official(kind), tmp_path / "mm.safetensors")
    convert_motion_file(tmp_path / "mm.safetensors", tmp_path / "a.safetensors", kind=kind)
    convert_motion_file(tmp_path / "a.safetensors", tmp_path / "a", to="adapter")
    adapter, how = diffusers.MotionAdapter.from_pretrained(tmp_path / "a", output_loading_info=True)
    assert not any(how[key] for key in ("missing_keys", "unexpected_keys", "mismatched_keys"))
    assert adapter.config.motion_max_seq_length == TABLE_LENGTHS[kind]
    assert same(adapter.state_dict(), as_adapter(official(kind)))
    adapter.save_pretrained(tmp_path / "b")
    ours, theirs = (json.loads((tmp_path / name / "config.json").read_text()) for name in "ab")
    assert ours.items() <= theirs.items()
    for folder in "ab":
        convert_motion_file(tmp_path / folder, tmp_path / "c.safetensors", force=True)
        assert same(load_file(tmp_path / "c.safetensors"), official(kind))
    for name in ("a.safetensors", "a", "b", "c.safetensors"):
        motion = load_motion_module(tmp_path / name)
        assert (motion.kind, motion.trained_length) == (kind, TABLE_LENGTHS[kind])


@pytest.mark.parametrize(
    ("kind", "resnets", "own", "schedule"),
    [
        ("v1", True, True, 'beta_schedule="linear", beta_start=0.00085, beta_end=0.012'),
        ("v3", False, True, 'beta_schedule="linear"'),
        ("sdxl", False, False, 'beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.02'),
        ("hotshot", True, True, 'beta_schedule="scaled_linear"'),
    ],
)
def test_what_a_motion_adapter_cannot_say_is_said(tmp_path, kind, resnets, own, schedule):
    save_file(official(kind), tmp_path / "mm.safetensors")
    lost = convert_motion_file(tmp_path / "mm.safetensors", tmp_path / "a", to="adapter")
    assert schedule in lost[0]
    assert any("the UNet's group norms" in sentence for sentence in lost) is resnets
    assert any("the motion module's group norms" in sentence for sentence in lost) is own
    assert convert_motion_file(tmp_path / "mm.safetensors", tmp_path / "a.safetensors") == []


def refusal(*args, **how):
    with pytest.raises(MotionFileError) as caught:
        convert_motion_file(*args, **how)
    return str(caught.value)


@pytest.mark.parametrize("to", TARGETS)
def test_what_is_there_is_replaced_only_if_asked(tmp_path, source, to):
    target = tmp_path / TARGETS[to]
    convert_motion_file(source, target, to=to)
    before = sorted(path.stat().st_mtime_ns for path in [target, *target.glob("*")])
    assert "force" in refusal(source, target, to=to)
    assert sorted(path.stat().st_mtime_ns for path in [target, *target.glob("*")]) == before
    save_file(random_motion_state("v3", WIDTHS, seed=1), source)
    convert_motion_file(source, target, to=to, force=True)
    key = "down_blocks.0.motion_modules.0.temporal_transformer.proj_in.weight"
    assert torch.equal(*(load_motion_module(path).state_dict()[key] for path in (source, target)))


def test_other_files_of_a_folder_are_left_alone_and_a_file_may_be_converted_in_place(tmp_path, source):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "notes.txt").write_text("mine")
    convert_motion_file(source, tmp_path / "a", to="adapter", force=True)
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == ["config.json", WEIGHTS, "notes.txt"]
    convert_motion_file(source, source, force=True)
    assert same(load_file(source), official())


@pytest.mark.parametrize(
    ("target", "to", "words"),
    [
        ("a.ckpt", "official", "must be a safetensors file"),
        ("a", "official", "must be a safetensors file"),
        ("a.safetensors", "adapter", "must be a folder"),
        ("folder.safetensors", "official", "is a folder"),
        ("file", "adapter", "is a file"),
        ("file/a.safetensors", "official", "cannot be written"),
        ("file/a", "adapter", "cannot be written"),
    ],
)
def test_a_target_that_will_not_do_is_told_so(tmp_path, source, target, to, words):
    (tmp_path / "folder.safetensors").mkdir()
    (tmp_path / "file").write_text("")
    before = sorted(tmp_path.rglob("*"))
    assert words in refusal(source, tmp_path / target, to=to, force=True)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("to", TARGETS)
@pytest.mark.parametrize("there", [True, False])
def test_a_full_disk_leaves_everything_as_it_was(tmp_path, source, to, there):
    resource = pytest.importorskip("resource")
    target = tmp_path / TARGETS[to]
    if there:
        convert_motion_file(source, target, to=to)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, limits[1]))  # no file may grow beyond
    try:
        assert "cannot be written" in refusal(source, target, to=to, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
    assert target.exists() is there


def test_a_source_is_refused_as_in_loading(tmp_path):
    (tmp_path / "mm.ckpt").write_bytes(b"")
    for to, target in TARGETS.items():
        assert "is empty" in refusal(tmp_path / "mm.ckpt", tmp_path / target, to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["mm.ckpt"]
