"""What it takes to load a motion module, and to put it into a UNet and take it out again.

    python -m tools.benchmarks.loading

A v2 motion module at full widths in half precision, 0.9 GB as its file, beside reading the same bytes from the same
file into memory. The file has just been written, so both find it in the system's cache: no disk is measured.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

from lib_animatediff import inject
from motion_module import MotionModule, load_motion_module

from .harness import FEWEST_ROUNDS, compare, conditions, spread
from .peers import motion_of
from .window_memory import sd15_unet

FRAMES = 16
CHUNK = 16 * 2**20


def read(path: Path) -> bytearray:
    """All bytes of a file, into memory that is the reader's own."""
    content = bytearray(path.stat().st_size)
    with path.open("rb", buffering=0) as file:
        view = memoryview(content)
        while view:
            view = view[file.readinto(view[:CHUNK]) or len(view) :]
    return content


def put_in_and_take_out(unet: nn.Module, motion: MotionModule) -> Callable[[], None]:
    """An injection without any call."""

    def run() -> None:
        with inject(unet, motion, frames=FRAMES):
            pass

    return run


def main() -> None:
    """Print both."""
    parser = argparse.ArgumentParser(description="Loading, injecting, restoring.")
    parser.add_argument("--rounds", type=int, default=FEWEST_ROUNDS)
    parser.add_argument("--folder", type=Path, help="where the file is written for a while; default: the system's")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    motion = motion_of("v2").half()
    with tempfile.TemporaryDirectory(dir=asked.folder) as folder:
        path = Path(folder) / "mm_sd15_v2.safetensors"
        save_file(motion.state_dict(), path)
        things = {"loading": lambda: load_motion_module(path), "reading": lambda: read(path)}
        found = compare(things, asked.rounds)
        size = path.stat().st_size
    print(f"{asked.rounds} rounds; {conditions()}\n")
    print("|  | s | relative to reading |")
    print("|---|---|---|")
    print(f"| reading {size / 2**20:.0f} MiB | {found.median('reading'):.3f} | 1 |")
    print(f"| loading | {found.median('loading'):.3f} | {spread(found.ratio('loading', 'reading'))} |\n")
    times = compare({"inject and restore": put_in_and_take_out(sd15_unet(), motion)}, 50).seconds["inject and restore"]
    each = sorted(1000 * seconds for seconds in times)
    print(f"Inject and restore: {each[len(each) // 2]:.2f} ms ({each[0]:.2f} to {each[-1]:.2f}), 50 times.")


if __name__ == "__main__":
    main()
