"""The same training in other ways of computing it: more processes, smaller batches, less memory."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys

import pytest
import torch
from support import hosts
from support.matrix import in_matrix
from support.motion_files import write_motion_file
from training import parts, worker

from lib_animatediff import inject
from lib_animatediff.training import MemorySource
from lib_animatediff.training.dataset import Examples, batches
from lib_animatediff.training.loss import text_once_per_clip
from motion_module import load_motion_module
from motion_module.temporal_transformer import TemporalTransformer

CLOSE = 1e-5


def forked(folder, more):
    """Two processes that have imported everything, as those that torchrun starts find themselves."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = multiprocessing.get_context("fork")
    two = [context.Process(target=one_of_two, args=(rank, port, folder, json.dumps(more))) for rank in range(2)]
    for process in two:
        process.start()
    for process in two:
        process.join(300)
    assert [process.exitcode for process in two] == [0, 0]


def one_of_two(rank, port, folder, more):
    from accelerate.state import AcceleratorState

    os.environ |= {name: str(rank) for name in ("RANK", "LOCAL_RANK")}
    os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    AcceleratorState._reset_state(reset_partial_state=True)  # which is that of one process
    worker.main(str(folder), more)


def launched(folder, more):
    # (`accelerate launch` starts several processes on GPUs only.)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [parts.ROOT / "tests" / "training" / "worker.py", folder, json.dumps(more)]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize(
    "begin",
    [
        pytest.param(forked, marks=pytest.mark.skipif(sys.platform != "linux", reason="forks after torch's imports")),
        in_matrix(launched),
    ],
)
def test_two_processes_equal_one_with_twice_the_batch(tmp_path, begin):
    more = {"steps": 3, "caption_dropout": 0.5, "ema": 0.5}
    base = parts.small_base(parts.small_ldm_unet())
    one = parts.trained(tmp_path / "one", base=base, batch=2, **more)
    begin(tmp_path / "two", {"batch": 1} | more)
    two = parts.load_file(tmp_path / "two" / "motion-module.safetensors")
    assert parts.largest_difference(one, two) < CLOSE
    a, b = (parts.records(tmp_path / name) for name in ("one", "two"))
    assert [line["loss"] for line in a] == pytest.approx([line["loss"] for line in b], abs=CLOSE)
    half = parts.trained(tmp_path / "half", base=base, batch=1, **more)
    assert parts.largest_difference(one, half) > CLOSE  # so the second process did count


@pytest.mark.parametrize("width", [in_matrix(16), 24])
def test_two_batches_of_one_equal_a_batch_of_two_also_of_two_shapes(tmp_path, width):
    square, other = torch.randn(4, 4, 16, 16), torch.randn(4, 4, 16, width)
    clips = MemorySource([(square, "square"), (other, "other")], latents=True)
    together = parts.trained(tmp_path / "one", clips=clips, batch=2)
    in_turn = parts.trained(tmp_path / "two", clips=clips, batch=1, accumulation=2)
    of_one = parts.trained(tmp_path / "three", clips=clips, batch=1)
    # AdamW divides by the gradient, so that rounding moves single weights by a part of the learning rate
    assert distance(together, in_turn) < 1e-3 * distance(together, of_one)


def distance(a, b):
    """The root of the sum of squares over all weights."""
    return sum(float((a[name].double() - b[name].double()).square().sum()) for name in a) ** 0.5


@pytest.mark.parametrize("target", ["motion-module", "adapter"])
def test_checkpointing_changes_nothing(tmp_path, target):
    plain = parts.trained(tmp_path / "a", target=target, frames=4)
    saving = parts.trained(tmp_path / "b", target=target, frames=4, checkpointing=True)
    assert parts.largest_difference(plain, saving) < CLOSE


def test_checkpointing_keeps_less(tmp_path, monkeypatch):
    """Every temporal transformer runs twice, and so do the UNet's own blocks."""
    calls = []
    kept = TemporalTransformer._add_motion
    monkeypatch.setattr(
        TemporalTransformer, "_add_motion", lambda self, *given: calls.append(self) or kept(self, *given)
    )
    parts.trained(tmp_path, steps=1, checkpointing=True)
    assert len(calls) == 2 * len(set(calls)) == 2 * 6  # sites


def test_readers_ahead_give_the_same_examples(tmp_path):
    found = []
    for workers in (0, 2):
        asked = parts.settings(tmp_path, workers=workers, batch=2, mirror=True)
        examples = Examples(MemorySource(parts.latent_clips(), latents=True), range(4), asked)
        found.append(
            [example for batch in batches(examples, asked, range(3), process=0, processes=1) for example in batch]
        )
    for a, b in zip(*found, strict=True):
        assert (a.number, a.clip.caption) == (b.number, b.clip.caption)
        assert torch.equal(a.clip.mean, b.clip.mean)


@pytest.mark.parametrize("host", hosts.HOSTS)
def test_text_brought_once_equals_text_for_each_frame(host, tmp_path):
    frames, clips = 3, 2
    unet = hosts.HOSTS[host]()
    motion = load_motion_module(write_motion_file(tmp_path))
    given = hosts.inputs(clips * frames)
    text = given["context"][::frames]
    with inject(unet, motion, frames=frames), torch.no_grad():
        expected = hosts.call(unet, {**given, "context": text.repeat_interleave(frames, 0)})
        with text_once_per_clip(unet, frames):
            found = hosts.call(unet, {**given, "context": text})
    assert torch.allclose(found, expected, atol=1e-5)
    assert not any(layer._forward_pre_hooks for layer in unet.modules())
