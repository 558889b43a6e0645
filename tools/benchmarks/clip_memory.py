"""What a clip's length costs in memory: peaks of a process that makes one video of another, from reading to writing.

    python -m tools.benchmarks.clip_memory --frames 32 1000

The built-in pocket model restyles a video: it is examined, read and encoded, sampled in context windows with CFG,
decoded, and written as MP4. Each length has a process of its own, which first makes a short clip, so that libraries are
loaded. Then the kernel's mark of the most resident memory is set back before each phase and read after it (Linux only).
The table has the peak of each phase, its growth from the first length, and the bytes that each frame adds. The line
above it has the bytes of a frame's pixels, and of its latent in float32.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.jobs.recipe import Request, prepare
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video import Source, examine, source_frames, write_clip
from lib_animatediff.video.pyav import need_av

SIDE = 128
WARM_UP = 20  # frames: more than a window
STEPS, DENOISE = 2, 0.5  # one step is run
PHASES = ("reading", "encoding and sampling", "decoding and writing")
_LATENT_CHANNELS, _LATENT_SIDE, _FLOAT = 4, 8, 4
_MIB, _KB = 2**20, 1000


class Drift(Sequence):
    """Frames of noise that drifts, made when they are read."""

    def __init__(self, count: int, side: int) -> None:
        blotches = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
        self._image = np.asarray(Image.fromarray(blotches).resize((side, side), Image.Resampling.BICUBIC))
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, place: Any) -> Image.Image:
        if not 0 <= place < self._count:
            raise IndexError(place)
        return Image.fromarray(np.roll(self._image, place, 1))


def request(source: Path, frames: int, side: int) -> Request:
    """A clip of the built-in model from a video."""
    return Request(
        checkpoint=POCKET.folder / POCKET.checkpoint,
        motion=POCKET.folder / POCKET.motion,
        prompt=POCKET.prompt,
        settings=parse_settings({"frames": frames}),
        video=VideoStart(Source(source), DENOISE),
        size=(side, side),
        steps=STEPS,
        cfg=POCKET.cfg,
    )


def read(source: Path, frames: int, side: int) -> None:
    """Examine a video, and read its frames in the size of a clip."""
    examine(Source(source), frames=frames)
    for _ in source_frames(Source(source), (side, side), frames):
        pass


def status(name: str) -> int:
    """A line of the kernel about this process, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def peak_of(phase: Callable[[], Any]) -> tuple[int, Any]:
    """Most resident bytes while a phase runs, and its result."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    done = phase()
    return status("VmHWM"), done


def measured(source: Path, frames: int, side: int, folder: Path) -> list[int]:
    """Peak bytes of each of `PHASES`."""
    need_av()
    ready = prepare(request(source, WARM_UP, side))
    pipeline = ready.load()
    read(source, WARM_UP, side)
    write_clip(folder / "warm.mp4", ready.render(pipeline), formats=["mp4"], fps=8)
    ready = prepare(request(source, frames, side))
    reading, _ = peak_of(lambda: read(source, frames, side))
    sampling, images = peak_of(lambda: ready.render(pipeline))
    writing, _ = peak_of(lambda: write_clip(folder / "clip.mp4", images, formats=["mp4"], fps=8))
    return [reading, sampling, writing]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, nargs="+", default=[32, 1000])
    parser.add_argument("--side", type=int, default=SIDE, help="width and height in pixels")
    parser.add_argument("--source", type=Path, help=argparse.SUPPRESS)  # of the process of one length
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if asked.source:
            print(json.dumps(measured(asked.source, asked.frames[0], asked.side, Path(folder))))
            return
        first: list[int] = []
        latent = _LATENT_CHANNELS * (asked.side // _LATENT_SIDE) ** 2 * _FLOAT
        print(f"pixels of a frame {3 * asked.side**2 / _KB:.1f} kB, latent {latent / _KB:.1f} kB")
        print(f"| frames | {' | '.join(f'{phase}, MiB' for phase in PHASES)} |")
        print("|---" * (len(PHASES) + 1) + "|")
        for frames in asked.frames:
            (source,) = write_clip(
                Path(folder) / "source.mp4", Drift(max(frames, WARM_UP), asked.side), formats=["mp4"], fps=8
            )
            words = ["--frames", str(frames), "--side", str(asked.side), "--source", str(source)]
            done = subprocess.run(
                [sys.executable, "-m", "tools.benchmarks.clip_memory", *words],
                check=True,
                capture_output=True,
                text=True,
            )
            peaks = json.loads(done.stdout.splitlines()[-1])
            first = first or peaks
            print(f"| {frames} | {' | '.join(map(_cell, peaks, first, [frames - asked.frames[0]] * 3))} |", flush=True)


def _cell(peak: int, first: int, more: int) -> str:
    if not more:
        return f"{peak / _MIB:.1f}"
    return f"{peak / _MIB:.1f} ({peak / first - 1:+.1%}, {(peak - first) / more / _KB:.1f} kB a frame)"


if __name__ == "__main__":
    main()
