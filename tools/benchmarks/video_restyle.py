"""Video to video with the village model: one subject becomes another one that moves as the first did.

    python -m tools.benchmarks.video_restyle [--denoise 0.6 0.7 0.8]

Clips of the world, which no training saw, are the videos. The prompt names another subject in another colour, and the
video's motion and scenery. The judge of a build reads both. *Distance* is the mean distance of the two subjects'
middles over the frames, as a share of the length of the video's path.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video.source import Source
from motion_module import MotionModule, load_motion_module
from tools.pocket.evaluate import SEEDS_APART, table
from tools.pocket.export import load_pipeline
from tools.pocket.gates import GATE_SEED
from tools.village.scene import TRAINED, Scene
from tools.village_model.evaluate import animated, mean, shows_subject
from tools.village_model.export import VILLAGE
from tools.village_model.gates import fresh
from tools.village_model.measure import track
from tools.village_model.motion import RESULT as MOTION
from tools.village_model.pictures import frames
from tools.village_model.probe import Judge

CLIPS = 24
NEAR = 0.15  # of the path's length
MOSTLY = 0.75  # of the frames
MOVING = tuple(concept for concept in TRAINED if concept[2] != "standing")


@dataclass(frozen=True)
class Restyled:
    """One strength, over all clips.

    Attributes:
        denoise: denoising strength.
        clips: how many.
        distance: median of the distances.
        near: share of the clips with a distance of at most 15 %.
        subject: mean share of the frames that show the new subject in its colour.
        both: share of the clips that are near and show the new subject in three of four frames.
    """

    denoise: float
    clips: int
    distance: float
    near: float
    subject: float
    both: float


def pairs(count: int) -> Iterator[tuple[Scene, Scene]]:
    """Scenes for the videos, and the same with another subject and colour."""
    scenes = fresh(2 * count, MOVING)
    for shown, other in zip(scenes[:count], scenes[count:], strict=True):
        subject = other.subject if other.subject != shown.subject else "ball" if shown.subject != "ball" else "bird"
        colour = other.colour if other.colour != shown.colour else "red" if shown.colour != "red" else "blue"
        yield shown, replace(shown, subject=subject, colour=colour)


def to_image(picture: Tensor) -> Image.Image:
    """A picture, c h w from 0 to 1, as an image."""
    return Image.fromarray((picture.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy())


def distance(path: Tensor, other: Tensor) -> float:
    """Mean distance of two paths, f 2 each, as a share of the second one's length."""
    length = (other[1:] - other[:-1]).norm(dim=1).sum()
    return float((path - other).norm(dim=1).mean() / length)


def restyled(pipeline: Any, motion: MotionModule, judge: Judge, denoise: float, count: int) -> Restyled:
    """Make and measure the clips of one strength."""
    distances, subjects = [], []
    for number, (shown, wanted) in enumerate(pairs(count)):
        video = frames(shown)
        with tempfile.TemporaryDirectory() as folder:
            for frame, picture in enumerate(video):
                to_image(picture).save(Path(folder, f"{frame:02}.png"))
            start = VideoStart(Source(Path(folder)), denoise)
            made = animated(pipeline, motion, video=start)(wanted, GATE_SEED + number * SEEDS_APART)
        found = track(judge, made)
        distances.append(distance(found.path, track(judge, video).path))
        subjects.append(shows_subject(wanted, found))
    near = [each <= NEAR for each in distances]
    both = [a and b >= MOSTLY for a, b in zip(near, subjects, strict=True)]
    return Restyled(denoise, count, float(torch.tensor(distances).median()), mean(near), mean(subjects), mean(both))


def main() -> None:
    """Print a row for each strength."""
    parser = argparse.ArgumentParser(description="Video to video with the village model.")
    parser.add_argument("--build", type=Path, default=Path("build/village"))
    parser.add_argument("--denoise", type=float, nargs="+", default=[0.6, 0.7, 0.8])
    parser.add_argument("--clips", type=int, default=CLIPS)
    asked = parser.parse_args()
    pipeline, judge = load_pipeline(asked.build, VILLAGE.name), Judge(asked.build)
    motion = load_motion_module(asked.build / MOTION)
    print(table([restyled(pipeline, motion, judge, strength, asked.clips) for strength in asked.denoise]))


if __name__ == "__main__":
    main()
