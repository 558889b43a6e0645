"""What cheaper steps cost: clips of the built-in model, with feature reuse, and with CFG in a part of the steps.

    python -m tools.benchmarks.cheaper_quality

Each moving concept of the model's world as often as makes the number of clips, as in docs/pocket.md. The sprite is
followed through each clip: whether it goes where the caption says, how far, and in how many frames it looks right.
"""

from __future__ import annotations

import argparse
import itertools

import torch

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings
from tools.pocket.evaluate import MOVING, Make, Score, score
from tools.pocket.sampling import CFG, STEPS
from tools.pocket.world import SIZE, Concept, caption

from .features import Clip, Studio, lines, tensor

CLIPS = 48
WAYS: dict[str, dict[str, object]] = {
    "all steps full, with CFG": {},
    "reuse 2": {"reuse": 2},
    "reuse 2, branch 1": {"reuse": 2, "reuse_branch": 1},
    "reuse 3": {"reuse": 3},
    "reuse 3, branch 1": {"reuse": 3, "reuse_branch": 1},
    "reuse 5": {"reuse": 5},
    "guidance_end 0.8": {"guidance_end": 0.8},
    "guidance_end 0.6": {"guidance_end": 0.6},
    "guidance_end 0.4": {"guidance_end": 0.4},
    "guidance 0.1 to 0.6": {"guidance_start": 0.1, "guidance_end": 0.6},
    "reuse 2, guidance_end 0.6": {"reuse": 2, "guidance_end": 0.6},
}


def maker(studio: Studio, settings: dict[str, object], steps: int) -> Make:
    """Makes the clip of a concept and a seed with these settings."""
    checked = parse_settings(settings)

    def make(concept: Concept, seed: int) -> torch.Tensor:
        made: Clip = animate(
            studio.pipeline,
            studio.motion,
            prompt=caption(concept),
            seed=seed,
            settings=checked,
            size=(SIZE, SIZE),
            steps=steps,
            cfg=CFG,
        )
        return tensor(made)

    return make


def row(found: Score, base: Score) -> list[object]:
    """Figures of one way, and what is left of the base's."""
    names = ("heading", "displacement", "monotone", "subject")
    values = [(float(getattr(found, name)), float(getattr(base, name))) for name in names]
    return [found.name, *(f"{one:.3f} ({one / other:.0%})" if other else f"{one:.3f}" for one, other in values)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Quality of cheaper steps, by the built-in model.")
    parser.add_argument("--clips", type=int, default=CLIPS)
    parser.add_argument("--steps", type=int, default=STEPS)
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    studio, concepts = Studio(), list(itertools.islice(itertools.cycle(MOVING), asked.clips))
    found = [score(name, maker(studio, WAYS[name], asked.steps), concepts=concepts) for name in asked.ways]
    print(f"{asked.clips} clips of {asked.steps} steps; in brackets: of the first row's.\n")
    print(lines(["", "direction", "displacement, px", "monotone", "subject"], [row(each, found[0]) for each in found]))


if __name__ == "__main__":
    main()
