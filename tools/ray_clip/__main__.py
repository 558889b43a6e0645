"""One long clip on several Ray workers.

`python -m tools.ray_clip check` renders it on 1, 2 and 3 workers of a local cluster, kills a worker at a random
step each time, and compares all bits. `python -m tools.ray_clip speedup` simulates many workers.
`python -m tools.ray_clip window` measures a window in this process.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from .speedup import Step, speedup

WORKERS, NETWORKS = (2, 4, 8, 16, 32, 64), (1.0, 10.0)
_ROWS = 2  # streams: cond and uncond
_CHANNELS, _FRAMES, _HALF, _PIXELS = 4, 16, 2, 8
_OVERHEAD = 2000  # bytes of a message beside its tensors, measured: see docs/farm.md
_NUMBERS = 8  # bytes of a row for its condition's number and its timestep


def window_bytes(side: int, streams: int = _ROWS) -> tuple[int, int]:
    """Sent and received for a window of 16 frames in half precision, of frames of this many pixels a side."""
    latents = streams * _FRAMES * _CHANNELS * (side // _PIXELS) ** 2 * _HALF
    return latents + streams * _FRAMES * _NUMBERS + _OVERHEAD, latents + _OVERHEAD


def main() -> None:
    """Run a command. The exit code is 1 if bits differ."""
    parser = argparse.ArgumentParser(prog="python -m tools.ray_clip", description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="the same bits on any number of workers")
    check.add_argument("--frames", type=int, default=400)
    check.add_argument("--steps", type=int, default=2)
    check.add_argument("--workers", type=int, nargs="+", default=[1, 2, 3])
    check.add_argument("--seed", type=int, default=0)
    check.add_argument("--out", type=Path)
    simulate = commands.add_parser("speedup", help="the speed-up by simulation")
    simulate.add_argument("--windows", type=int, nargs="+", default=[33, 83], help="of a step: 400 and 1000 frames")
    simulate.add_argument("--seconds", type=float, default=0.46, help="of a window on a worker")
    simulate.add_argument("--side", type=int, default=512, help="of a frame, in pixels")
    simulate.add_argument("--step", type=float, default=0.01, help="seconds of the leader for the sampler's step")
    simulate.add_argument("--pack", type=float, default=0.001, help="seconds of the leader before each window")
    simulate.add_argument("--add", type=float, default=0.0025, help="seconds of the leader after each window")
    commands.add_parser("window", help="seconds of a window of the built-in model, on one core")
    given = parser.parse_args()
    if given.command == "speedup":
        sent, received = window_bytes(given.side)
        print(table([Step(n, given.seconds, sent, received, given.pack, given.add, given.step) for n in given.windows]))
        return
    os.environ["OMP_NUM_THREADS"] = "1"  # before torch is imported: sums of several threads have other bits
    from .check import check as run
    from .check import window_seconds

    if given.command == "window":
        print(f"{window_seconds():.3f}")
        return
    report = run(given.frames, given.steps, given.workers, given.seed)
    text = json.dumps(report, indent=2)
    print(text) if given.out is None else given.out.write_text(f"{text}\n", encoding="utf-8")
    sys.exit(bool(report["problems"]))


def table(steps: list[Step]) -> str:
    """The speed-ups as a table in Markdown."""
    lines = [
        f"| Windows of a step | Network | {' | '.join(f'{count} workers' for count in WORKERS)} |",
        f"|---|---|{'---|' * len(WORKERS)}",
    ]
    for step in steps:
        for gigabits in NETWORKS:
            cells = (f"{speedup(step, workers, gigabits):.1f}x" for workers in WORKERS)
            lines.append(f"| {step.windows} | {gigabits:g} Gbit/s | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
