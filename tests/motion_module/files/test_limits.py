"""Weights that are no numbers, files that change while they are read, and paths that are no files."""

from __future__ import annotations

import contextlib
import os
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from support.motion_files import write_motion_file

from motion_module import AnimateDiffError, inspect_motion_file, load_motion_lora, load_motion_module
from motion_module.files.weights import read_header, read_tensors
from motion_module.limits import printable

BLOCK = "down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0"
LAYER = f"{BLOCK}.attention_blocks.0.processor.to_q_lora"
SAVE = {"safetensors": save_file, "ckpt": torch.save}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return read_tensors(write_motion_file(tmp_path_factory.mktemp("motion")))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("suffix", SAVE)
def test_a_motion_module_with_a_weight_that_is_no_number(tmp_path, weights, value, suffix):
    changed = {name: tensor.clone() for name, tensor in weights.items()}
    next(tensor for name, tensor in changed.items() if name.endswith("to_q.weight")).view(-1)[7] = value
    path = tmp_path / f"mm.{suffix}"
    SAVE[suffix](changed, path)
    with pytest.raises(AnimateDiffError, match="no finite numbers"):
        load_motion_module(path)


BAD = [torch.ones(4, 32, dtype=dtype) for dtype in (torch.int8, torch.bool, torch.complex64, torch.int64)]
BAD += [torch.full((4, 32), value) for value in (float("nan"), float("inf"))]


@pytest.mark.parametrize("bad", BAD, ids=lambda tensor: f"{tensor.dtype}-{tensor.view(-1)[0]}")
@pytest.mark.parametrize("part", ["down", "up"])
def test_a_lora_whose_matrices_are_no_numbers(tmp_path, bad, part):
    good = {"down": torch.ones(4, 32), "up": torch.ones(32, 4)}
    tensors = {f"{LAYER}.{name}.weight": tensor for name, tensor in good.items()}
    torch.save(tensors, tmp_path / "good.pt")
    assert load_motion_lora(tmp_path / "good.pt").deltas
    tensors[f"{LAYER}.{part}.weight"] = bad if part == "down" else bad.T.contiguous()
    torch.save(tensors, tmp_path / "bad.pt")
    with pytest.raises(AnimateDiffError, match="no finite numbers"):
        load_motion_lora(tmp_path / "bad.pt")


@pytest.mark.parametrize("suffix", SAVE)
def test_weights_do_not_depend_on_the_file_any_more(tmp_path, weights, suffix):
    """A memory-mapped file that becomes shorter kills the process."""
    path = tmp_path / f"mm.{suffix}"
    SAVE[suffix](weights, path)
    read = read_tensors(path)
    os.truncate(path, 100)
    assert all(torch.equal(read[name], tensor) for name, tensor in weights.items())


def test_a_file_that_becomes_shorter_while_it_is_read(tmp_path, weights, monkeypatch):
    path = tmp_path / "mm.safetensors"
    save_file(weights, path)
    header = read_header(path)
    monkeypatch.setattr("motion_module.files.weights._safetensors_header", lambda _path: header)
    os.truncate(path, path.stat().st_size - 1000)
    with pytest.raises(AnimateDiffError, match=r"cut short|incomplete|damaged"):
        read_tensors(path)


@pytest.mark.parametrize("read", [inspect_motion_file, load_motion_module, load_motion_lora])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    path = tmp_path / "mm.safetensors"
    os.mkfifo(path)

    def attempt():
        with contextlib.suppress(AnimateDiffError):
            read(path)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(5)
    assert not thread.is_alive()


def test_a_device_is_no_file():
    with pytest.raises(AnimateDiffError, match="a pipe or a device"):
        load_motion_module(Path("/dev/zero"))


def test_terminal_escapes_do_not_reach_a_terminal():
    assert printable("\x1b[31mred\x07\u202e \u00e4\n\tok") == " [31mred   \u00e4\n\tok"


def test_an_error_that_quotes_a_long_text_keeps_what_to_do():
    error = AnimateDiffError(f"There is no file {'n' * 100_000}. Check the path.", code="AD-X00")
    assert len(str(error)) < 1600
    assert str(error).startswith("There is no file nnn")
    assert str(error).endswith("nnn. Check the path. [AD-X00]")
