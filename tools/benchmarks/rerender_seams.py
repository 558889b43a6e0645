"""Seams of clips of which some frames are rendered again, with the built-in pocket model.

    python -m tools.benchmarks.rerender_seams [--clips 24] [--again 5-10] [--steps 12] [--ramp 0.5 0.7 0.85]

Each clip of the model's world is rendered, and then frames in its middle again with another seed. *Seam* is the larger
of the two changes between a frame that stayed and one that is new, relative to the usual change of the clip. *Pixels*
says whether every frame that stayed is the same, bit for bit. *Other* is the share of the usual change by which the new
frames differ from those that they replace, so that a clip that was not rendered again would have 0.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.rerender import RAMP, rerender
from lib_animatediff.video import write_clip
from lib_animatediff.video.motion_meter import measure
from tools.pocket.evaluate import table
from tools.pocket.sampling import CFG
from tools.pocket.world import CONCEPTS, FRAMES, SIZE, caption, scene

from .features import Studio

SEED, OTHER_SEED = 91, 5_000
MOST = 1.5  # usual changes, of a seam that cannot be seen


@dataclass(frozen=True)
class Again:
    """One clip.

    Attributes:
        clip: its number.
        seam, before: of the new clip, and of the former one at the same frames.
        pixels: whether all frames that stayed are the same.
        other: change of the new frames from those before them, in usual changes.
    """

    clip: int
    seam: float
    before: float
    pixels: bool
    other: float


def made(studio: Studio, number: int, seed: int, steps: int, **start: object) -> Sequence[Image.Image]:
    """A clip of the model's world."""
    moving = [concept for concept in CONCEPTS if concept[2] != "still"]
    return animate(
        studio.pipeline,
        studio.motion,
        prompt=caption(scene(SEED, number, concepts=moving).concept),
        seed=seed + number * FRAMES,
        settings=parse_settings({"frames": FRAMES}),
        size=(SIZE, SIZE),
        steps=steps,
        cfg=CFG,
        **start,
    )


def again(studio: Studio, number: int, asked: argparse.Namespace) -> Again:
    """Make a clip, render some frames again, and measure it."""
    before = made(studio, number, SEED, asked.steps)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.png"
        write_clip(path, before, formats=["apng"])
        chosen = replace(rerender(path, asked.again, asked.strength), ramp=tuple(asked.ramp))
        pins = chosen.pinned()
        after = made(studio, number, OTHER_SEED, asked.steps, pins=pins, video=chosen.start)
    borders = pins.borders(FRAMES)
    motion, former = measure(after, borders), measure(before, borders)
    stayed = set(range(FRAMES)) - set(chosen.again)
    differences = [measure([before[frame], after[frame]]).changes[0] for frame in chosen.again]
    return Again(
        number,
        motion.worst_seam or 0.0,
        former.worst_seam or 0.0,
        all(before[frame].tobytes() == after[frame].tobytes() for frame in stayed),
        statistics.mean(differences) / former.usual,
    )


def main() -> None:
    """Print a row for each clip, and the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, nargs="+", default=[24], help="how many, or the numbers of several")
    parser.add_argument("--again", default="5-10")
    parser.add_argument("--strength", type=float, default=1.0)
    parser.add_argument("--ramp", type=float, nargs="*", default=RAMP)
    parser.add_argument("--steps", type=int, default=12)
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    studio, found = Studio(), list[Again]()
    for number in range(asked.clips[0]) if len(asked.clips) == 1 else asked.clips:
        found.append(again(studio, number, asked))
        print(table(found[-1:]).splitlines()[-1], flush=True)
    print(table(found))
    near = sum(one.seam <= MOST for one in found)
    same = sum(one.pixels for one in found)
    seam = statistics.median(one.seam for one in found)
    print(f"Seams of at most {MOST}: {near} of {len(found)}, median {seam:.2f}. Other frames identical: {same}.")


if __name__ == "__main__":
    main()
