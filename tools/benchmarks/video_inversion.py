"""What DDIM inversion keeps of a video's motion, with the built-in pocket model.

    python -m tools.benchmarks.video_inversion [--films 12] [--denoise 0.8 1] [--share 0 1] [--cfg 3] [--heading other]
    python -m tools.benchmarks.video_inversion --films 24 --heading same --picture docs/images/restyled.gif

The videos are clips of the model's world. Each prompt names another colour and shape, and another heading than the
video has, or the same one, or none. *Distance* is the median of the mean distance of the two sprites' middles, as a
share of the length of the video's path. *Prompt* is the share of the frames that show the colour and the shape of the
prompt. *Near* are the clips with a distance of at most 15 %, *subject* those of which three of four frames show the
prompt, and *both* is the share of the clips that are both.
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
from torch import Tensor

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video import write_gif
from lib_animatediff.video.source import Source
from tools.pocket.evaluate import table
from tools.pocket.measure import read
from tools.pocket.pictures import grid
from tools.pocket.sampling import CFG
from tools.pocket.showcase import FPS, named
from tools.pocket.world import CONCEPTS, FRAMES, SIZE, Scene, caption, clip, path, scene

from .features import Studio, tensor

SEED, LOST = 77, float(SIZE)  # pixels, where there is no sprite
NEAR = 0.15  # of the path's length
MOSTLY = 0.75  # of the frames
OTHER, SAME, NONE = "other", "same", "none"  # headings of the prompts
SHOWN = 4  # clips of the picture


@dataclass(frozen=True)
class Kept:
    """One strength, share and CFG scale, over all films."""

    denoise: float
    share: float
    cfg: float
    films: int
    distance: float
    prompt: float
    near: float
    subject: float
    both: float


def pairs(count: int, heading: str = OTHER) -> Iterator[tuple[Scene, Scene]]:
    """Scenes of the videos, and what the prompts name."""
    moving = [concept for concept in CONCEPTS if concept[2] != "still"]
    for number in range(count):
        shown = scene(SEED, number, concepts=moving)
        others = [one for one in moving if all(a != b for a, b in zip(one, shown.concept, strict=True))]
        colour, shape, other = others[(7 * number) % len(others)]
        yield shown, replace(shown, colour=colour, shape=shape, heading=other if heading == OTHER else shown.heading)


def prompt_of(wanted: Scene, heading: str) -> str:
    """The prompt of a clip."""
    return f"a {wanted.colour} {wanted.shape}" if heading == NONE else caption(wanted.concept)


def restyled(
    studio: Studio, number: int, shown: Scene, prompt: str, *, denoise: float, share: float, cfg: float, steps: int
) -> Tensor:
    """The clip of a video, f c h w from 0 to 1."""
    with tempfile.TemporaryDirectory() as folder:
        for frame, picture in enumerate(clip(shown)):
            pixels = (picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
            Image.fromarray(pixels).save(Path(folder, f"{frame:02}.png"))
        made = animate(
            studio.pipeline,
            studio.motion,
            prompt=prompt,
            seed=SEED + number * FRAMES,
            settings=parse_settings({"frames": FRAMES}),
            video=VideoStart(Source(Path(folder)), denoise, inversion=share),
            size=(SIZE, SIZE),
            steps=steps,
            cfg=cfg,
        )
    return tensor(made)


def kept(studio: Studio, asked: argparse.Namespace, denoise: float, share: float, cfg: float) -> Kept:
    """Make and measure the clips of one strength, share and CFG scale."""
    distances, seen, shown_in = [], [], []
    for number, (shown, wanted) in enumerate(pairs(asked.films, asked.heading)):
        prompt = prompt_of(wanted, asked.heading)
        made = restyled(studio, number, shown, prompt, denoise=denoise, share=share, cfg=cfg, steps=asked.steps)
        found = [read(frame) for frame in made]
        distances.append(_distance([(each.x, each.y) for each in found], path(shown)))
        seen.append(statistics.mean(each.found and each.concept[:2] == wanted.concept[:2] for each in found))
        if number < SHOWN:
            shown_in += [clip(shown), made]
    if asked.picture is not None:
        write_picture(asked.picture, shown_in)
    near, subject = [each <= NEAR for each in distances], [each >= MOSTLY for each in seen]
    return Kept(
        denoise,
        share,
        cfg,
        asked.films,
        statistics.median(distances),
        statistics.mean(seen),
        statistics.mean(near),
        statistics.mean(subject),
        statistics.mean(a and b for a, b in zip(near, subject, strict=True)),
    )


def write_picture(path: Path, shown: Sequence[Tensor]) -> None:
    """Videos in the first row, and below them what they became; in turns in ``shown``."""
    rows = torch.stack([torch.stack(list(shown[row::2])) for row in range(2)])  # rows columns f c h w
    write_gif(path, [named(grid(rows[:, :, frame]), ["video", "restyled"]) for frame in range(FRAMES)], fps=FPS)


def _distance(found: Sequence[tuple[float, float]], wanted: Sequence[tuple[float, float]]) -> float:
    """Mean distance of two paths, as a share of the second one's length."""
    apart = [math.dist(one, other) for one, other in zip(found, wanted, strict=True)]
    return statistics.mean(LOST if math.isnan(one) else one for one in apart) / math.dist(wanted[0], wanted[-1])


def main() -> None:
    """Print a row for each strength, share and CFG scale."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=12)
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--denoise", type=float, nargs="+", default=[0.8, 1.0])
    parser.add_argument("--share", type=float, nargs="+", default=[0.0, 1.0])
    parser.add_argument("--cfg", type=float, nargs="+", default=[CFG])
    parser.add_argument("--heading", choices=[OTHER, SAME, NONE], default=OTHER, help="that the prompts name")
    parser.add_argument("--picture", type=Path, help="write a GIF of the first clips of the last row here")
    asked = parser.parse_args()
    torch.set_grad_enabled(False)
    studio, found = Studio(), []
    for denoise in asked.denoise:
        for share in asked.share:
            for cfg in asked.cfg:
                found.append(kept(studio, asked, denoise, share, cfg))
                print(table(found[-1:]).splitlines()[-1], flush=True)
    print(table(found))


if __name__ == "__main__":
    main()
