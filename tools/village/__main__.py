"""`python -m tools.village FOLDER` writes contact sheets of the world: what it holds, for the eye."""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

from .draw import Frames, clip, still
from .scene import CAMERA_MOVES, CONCEPTS, STILL, Camera, scene
from .sheets import sheet
from .words import COLOURS, MOTIONS, SCENERIES, STYLES, SUBJECTS, TIMES, WEATHERS

SEED = 3
COLUMNS = 8
FRAME = 5  # that stands for its clip
SHOWN = (("walker", "left"), ("car", "right"), ("bird", "up"), ("fish", "down"), ("balloon", "standing"))
CLOSED = (("ball", "bouncing"), ("walker", "circling"), ("bird", "swinging"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    for time in TIMES:
        rows = [
            [
                _still(10 * row + column, subject=subject, motion=motion, time=time)
                for column, motion in enumerate(MOTIONS)
            ]
            for row, subject in enumerate(SUBJECTS)
        ]
        sheet(rows, folder / f"subjects_{time}.png")
    skies = list(itertools.product(TIMES, WEATHERS))
    rows = [[_still(n, scenery=name, time=t, weather=w) for n, (t, w) in enumerate(skies)] for name in SCENERIES]
    sheet(rows, folder / "sceneries.png")
    rows = [[_still(number, style=style) for number in range(COLUMNS)] for style in STYLES]
    sheet(rows, folder / "styles.png")
    rows = [_clip(number, subject=subject, motion=motion) for number, (subject, motion) in enumerate(SHOWN + CLOSED)]
    sheet(rows, folder / "clips.png")
    rows = [_clip(number, Camera(move), motion="standing") for number, move in enumerate(CAMERA_MOVES)]
    sheet(rows, folder / "camera.png")


def _still(number: int, **fixed: str) -> Frames:
    colour = list(COLOURS)[number % len(COLOURS)]
    return still(scene(SEED, number, CONCEPTS, STILL, colour=colour, **fixed), FRAME)


def _clip(number: int, camera: Camera = STILL, **fixed: str) -> list[Frames]:
    return list(clip(scene(SEED, number, CONCEPTS, camera, **fixed))[::2])


if __name__ == "__main__":
    main()
