"""What DDIM inversion keeps of a video's motion, with the built-in pocket model.

    python -m tools.benchmarks.video_inversion [--films 12] [--denoise 0.8 1] [--share 0 1]

The videos are clips of the model's world. Each prompt names another colour and shape, and another heading than the
video has. *Distance* is the median of the mean distance of the two sprites' middles, as a share of the length of the
video's path. *Prompt* is the share of the frames that show the colour and the shape of the prompt.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from PIL import Image

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video.source import Source
from tools.pocket.evaluate import table
from tools.pocket.measure import read
from tools.pocket.sampling import CFG
from tools.pocket.world import CONCEPTS, FRAMES, SIZE, Scene, caption, clip, path, scene

from .features import Studio, tensor

SEED, LOST = 77, float(SIZE)  # pixels, where there is no sprite


@dataclass(frozen=True)
class Kept:
    """One strength and share, over all films."""

    denoise: float
    share: float
    films: int
    distance: float
    prompt: float


def pairs(count: int) -> Iterator[tuple[Scene, Scene]]:
    """Scenes of the videos, and what the prompts name."""
    moving = [concept for concept in CONCEPTS if concept[2] != "still"]
    for number in range(count):
        shown = scene(SEED, number, concepts=moving)
        others = [one for one in moving if all(a != b for a, b in zip(one, shown.concept, strict=True))]
        colour, shape, heading = others[(7 * number) % len(others)]
        yield shown, replace(shown, colour=colour, shape=shape, heading=heading)


def kept(studio: Studio, denoise: float, share: float, films: int, steps: int) -> Kept:
    """Make and measure the clips of one strength and share."""
    distances, seen = [], []
    for number, (shown, wanted) in enumerate(pairs(films)):
        with tempfile.TemporaryDirectory() as folder:
            for frame, picture in enumerate(clip(shown)):
                pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
                Image.fromarray(pixels).save(Path(folder, f"{frame:02}.png"))
            made = animate(
                studio.pipeline,
                studio.motion,
                prompt=caption(wanted.concept),
                seed=SEED + number * FRAMES,
                settings=parse_settings({"frames": FRAMES}),
                video=VideoStart(Source(Path(folder)), denoise, inversion=share),
                size=(SIZE, SIZE),
                steps=steps,
                cfg=CFG,
            )
        found = [read(frame) for frame in tensor(made)]
        distances.append(_distance([(each.x, each.y) for each in found], path(shown)))
        seen.append(statistics.mean(each.found and each.concept[:2] == wanted.concept[:2] for each in found))
    return Kept(denoise, share, films, statistics.median(distances), statistics.mean(seen))


def _distance(found: Sequence[tuple[float, float]], wanted: Sequence[tuple[float, float]]) -> float:
    """Mean distance of two paths, as a share of the second one's length."""
    apart = [math.dist(one, other) for one, other in zip(found, wanted, strict=True)]
    return statistics.mean(LOST if math.isnan(one) else one for one in apart) / math.dist(wanted[0], wanted[-1])


def main() -> None:
    """Print a row for each strength and share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--denoise", type=float, nargs="+", default=[0.8, 1.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.0, 1.0])
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    studio, found = Studio(), []
    for denoise in asked.denoise:
        for share in asked.share:
            found.append(kept(studio, denoise, share, asked.films, asked.steps))
            print(table(found[-1:]).splitlines()[-1], flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
