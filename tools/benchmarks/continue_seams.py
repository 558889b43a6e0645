"""Seams of clips that go on from an earlier one, with the built-in pocket model.

    python -m tools.benchmarks.continue_seams [--clips 24] [--keep 4 8] [--plain] [--inversion 0.7] [--sparse]

Each clip of the model's world goes on in a clip of as many frames, of which the first are the last ones of the earlier
clip. *Seam* is the change from its last frame to the first new one, relative to the usual change: the median of all
changes of the earlier clip and of the new frames. *Beside* is the largest of that change and the three after it, so
that a jump that only comes later counts. *Even* are the seams of at least half of the usual change: below it, the
movement seems to stop. *Subject* is the share of the new frames that show colour, shape and nose of the caption.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.continued import last_frames, next_seed
from lib_animatediff.request.start.pins import INVERSION, Pin, PinnedFrames
from lib_animatediff.video import write_clip
from lib_animatediff.video.motion_meter import measure
from tools.pocket.evaluate import table
from tools.pocket.measure import read
from tools.pocket.sampling import CFG
from tools.pocket.world import CONCEPTS, FRAMES, SIZE, Concept, caption, scene

from .features import Studio, tensor

SEED = 91
MOST, LEAST = 1.5, 0.5  # usual changes, of a seam that cannot be seen
BESIDE = 4  # changes, from the seam on


@dataclass(frozen=True)
class Joined:
    """One clip and its continuation."""

    clip: int
    seam: float
    beside: float
    subject: float


@dataclass(frozen=True)
class Row:
    """One way to go on, over all clips.

    Attributes:
        way: what is done.
        clips: how many.
        small: clips with a seam of at most `MOST`.
        even: clips with a seam of at least `LEAST` and at most `MOST`.
        seam: median of the seams.
        calm: clips without a change above `MOST` beside the seam.
        beside: median of the largest changes there.
        subject: mean share of the frames that show the caption.
    """

    way: str
    clips: int
    small: int
    even: int
    seam: float
    calm: int
    beside: float
    subject: float


def concept(number: int) -> Concept:
    """What a clip shows: one of the moving concepts."""
    return scene(SEED, number, concepts=[each for each in CONCEPTS if each[2] != "still"]).concept


def made(studio: Studio, number: int, seed: int, steps: int, **start: Any) -> Sequence[Image.Image]:
    """A clip of the model's world."""
    return animate(
        studio.pipeline,
        studio.motion,
        prompt=caption(concept(number)),
        seed=seed,
        settings=parse_settings({"frames": FRAMES}),
        size=(SIZE, SIZE),
        steps=steps,
        cfg=CFG,
        **start,
    )


def joined(studio: Studio, number: int, earlier: Path, before: Sequence[Image.Image], asked: Asked) -> Joined:
    """Go on with a clip, and measure the join."""
    pins = last_frames(earlier, asked.keep, FRAMES)
    start: dict[str, Any] = {"pins": PinnedFrames(tuple(pins), inversion=asked.inversion, leads_on=asked.leads_on)}
    if asked.sparse:
        start["controls"] = [
            ControlUnit(
                POCKET.folder / POCKET.sparse_ctrl,
                keys=(Pin(asked.keep - 1, earlier, FRAMES - 1),),
                colour_match=asked.colour_match,
            )
        ]
    after = made(studio, number, next_seed(SEED + number * FRAMES, FRAMES), asked.steps, **start)[asked.keep :]
    motion = measure([*before, *after], [FRAMES])
    beside = motion.changes[FRAMES - 1 : FRAMES - 1 + BESIDE]
    shown = statistics.mean(read(frame).shows(concept(number)) for frame in tensor(list(after)))
    return Joined(number, motion.worst_seam or 0.0, max(beside) / motion.usual, shown)


@dataclass(frozen=True)
class Asked:
    """One way to go on."""

    keep: int
    inversion: float
    leads_on: bool
    sparse: bool
    colour_match: float
    steps: int

    @property
    def name(self) -> str:
        """For the table."""
        encoder = f", SparseCtrl, colours {self.colour_match:g}" if self.sparse else ""
        return f"{self.keep} kept, {'led on' if self.leads_on else 'pins alone'}, inversion {self.inversion:g}{encoder}"


def row(asked: Asked, found: Sequence[Joined]) -> Row:
    """The results of one way."""
    seams = [each.seam for each in found]
    return Row(
        asked.name,
        len(found),
        sum(seam <= MOST for seam in seams),
        sum(LEAST <= seam <= MOST for seam in seams),
        statistics.median(seams),
        sum(each.beside <= MOST for each in found),
        statistics.median(each.beside for each in found),
        statistics.mean(each.subject for each in found),
    )


def ways(given: argparse.Namespace) -> Iterator[Asked]:
    """The ways that the options name."""
    for keep in given.keep:
        for inversion in given.inversion:
            yield Asked(keep, inversion, not given.plain, given.sparse, given.colour_match, given.steps)


def main() -> None:
    """Print a row for each way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=24)
    parser.add_argument("--keep", type=int, nargs="+", default=[4, 8])
    parser.add_argument("--inversion", type=float, nargs="+", default=[INVERSION])
    parser.add_argument("--plain", action="store_true", help="pins alone: the frames behind them are not led on")
    parser.add_argument("--sparse", action="store_true", help="the SparseCtrl encoder also has the last kept frame")
    parser.add_argument("--colour-match", type=float, default=0.0, help="of the encoder's image, 0 to 1")
    parser.add_argument("--steps", type=int, default=12)
    given = parser.parse_args()
    torch.set_grad_enabled(False)
    studio, all_ways = Studio(), list(ways(given))
    found: dict[Asked, list[Joined]] = {asked: [] for asked in all_ways}
    for number in range(given.clips):
        before = made(studio, number, SEED + number * FRAMES, given.steps)
        with tempfile.TemporaryDirectory() as folder:
            earlier = Path(folder) / "clip.png"
            write_clip(earlier, before, formats=["apng"])
            for asked in all_ways:
                one = joined(studio, number, earlier, before, asked)
                found[asked].append(one)
                print(f"{asked.name}: {table([one]).splitlines()[-1]}", flush=True)
    print(table([row(asked, ones) for asked, ones in found.items()]))


if __name__ == "__main__":
    main()
