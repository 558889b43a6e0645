"""Clips that are given images at frames: the pocket model's SparseCtrl encoder beside pins and image to image.

The images are the world's own, from scenes that no training saw, whose places have nothing to do with those of the
clip's noise. So a method has to move the clip to the image, and then go on.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.start.pins import INVERSION, Pin, PinnedFrames
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video import write_gif
from lib_animatediff.video.source import Source
from motion_module import MotionModule, load_motion_module

from .evaluate import MOVING, SEEDS_APART, mean, to_tensor
from .gates import GATE_SEED
from .loop import replacing
from .measure import Track, track
from .pictures import grid, to_bytes
from .report import pipeline_of
from .sampling import CFG, STEPS
from .showcase import FPS, named
from .world import FRAMES, HEADINGS, SIZE, TRAVEL, Concept, Scene, caption, clip, path, scene

CLIPS = len(MOVING)
STRIDE = 19  # through the concepts, so that some clips have something of each
KEY_SEED = GATE_SEED + 1  # of the scenes that the images are from
MOST_AWAY = 0.05 * SIZE  # pixels from the place that the image shows
LEAST_MOTION = 0.7  # of the mean displacement without an image
BACKWARD = 0.5  # pixels; places are read to half a pixel
LARGEST_STEP = 3 * TRAVEL[1] / (FRAMES - 1)  # pixels; clips without images have steps of up to 4.4
DENOISE = 0.8  # of image to image: the least with which anything moves
FIRST, ENDS = (0,), (0, FRAMES - 1)
SHOWN = (0, 13, 26, 39)  # of the clips
INTRODUCTION = f"""\
# Images at frames, with the built-in model

`python -m tools.pocket keys` writes this page. The images are from scenes of the model's world that no training saw, at
places that have nothing to do with the seed of the clip. The prompt names what the image shows. Each clip has {FRAMES}
frames, {STEPS} DDIM steps and CFG {CFG:g}; seeds and scenes are the same in all rows.

- `starts at it`: the sprite of frame 0 is within {MOST_AWAY:g} pixels of its place in the image, 5 % of the side.
- `moves on`: it goes at least {LEAST_MOTION:.0%} of the mean displacement without an image.
- `monotone`: no step between frames goes back by more than {BACKWARD:g} pixels, to which places are read.
- `without a jump`: no step is longer than {LARGEST_STEP:.1f} pixels, three times that of the fastest sprite. A pinned
  frame always shows its image, so this tells whether the clip goes on from it.
"""
ALTERNATIVE = "Scenes, and below them clips of each method that are given the first image, or the first and the last"

Paths = dict[int, Path]  # image of each given frame
Make = Callable[[Concept, int, Paths], Tensor]  # concept, seed and images to frames, f c h w from 0 to 1


@dataclass(frozen=True)
class Models:
    """What makes the clips.

    Attributes:
        pipeline: of the base model.
        motion: its motion module.
        encoder: its SparseCtrl encoder.
    """

    pipeline: Any
    motion: MotionModule
    encoder: Path

    @classmethod
    def load(cls, folder: Path) -> Models:
        """The shipped files in a folder."""
        return cls(
            pipeline_of(folder / POCKET.checkpoint),
            load_motion_module(folder / POCKET.motion),
            folder / POCKET.sparse_ctrl,
        )

    def clip(self, concept: Concept, seed: int, **given: Any) -> Tensor:
        """Frames of a clip, f c h w from 0 to 1."""
        how: dict[str, Any] = {"frames": FRAMES, "size": (SIZE, SIZE), "steps": STEPS, "cfg": CFG}
        pictures = animate(self.pipeline, self.motion, prompt=caption(concept), seed=seed, **how, **given)
        return torch.stack([to_tensor(picture) for picture in pictures])

    def without(self, concept: Concept, seed: int, _images: Paths) -> Tensor:
        """The clip without images."""
        return self.clip(concept, seed)

    def sparse(self, concept: Concept, seed: int, images: Paths) -> Tensor:
        """The encoder carries the images."""
        return self.clip(concept, seed, controls=[ControlUnit(self.encoder, keys=_pins(images))])

    def pinned(self, inversion: float) -> Make:
        """The frames equal the images; the noise of the others begins with this share of theirs."""
        return lambda concept, seed, images: self.clip(
            concept, seed, pins=PinnedFrames(_pins(images), inversion=inversion)
        )

    def repeated(self, concept: Concept, seed: int, images: Paths) -> Tensor:
        """Image to image from the first image in every frame."""
        with tempfile.TemporaryDirectory() as folder:
            for frame in range(FRAMES):
                (Path(folder) / f"{frame:02}.png").write_bytes(images[0].read_bytes())
            return self.clip(concept, seed, video=VideoStart(Source(Path(folder)), denoise=DENOISE))

    def methods(self) -> dict[str, tuple[Make, tuple[tuple[int, ...], ...]]]:
        """Each method, by its name, with the frames that it can be given."""
        return {
            "without an image": (self.without, (FIRST,)),
            "SparseCtrl": (self.sparse, (FIRST, ENDS)),
            f"pins with inverted noise ({INVERSION:g})": (self.pinned(INVERSION), (FIRST, ENDS)),
            "plain pins": (self.pinned(0.0), (FIRST, ENDS)),
            f"repeated image, image to image at {DENOISE:g}": (self.repeated, (FIRST,)),
        }


@dataclass(frozen=True)
class Outcome:
    """What became of the images in one clip.

    Attributes:
        away: pixels from each image's place to the sprite in its frame.
        displacement: distance along the heading from the first to the last frame, in pixels.
        backward: the largest step against the heading, in pixels.
        step: the largest distance between the sprites of neighbouring frames, in pixels.
    """

    away: Sequence[float]
    displacement: float
    backward: float
    step: float

    @property
    def is_met(self) -> bool:
        """Whether the sprite is where the images show it."""
        return all(away <= MOST_AWAY for away in self.away)

    @property
    def is_monotone(self) -> bool:
        """Whether it never goes back."""
        return self.backward <= BACKWARD

    @property
    def is_smooth(self) -> bool:
        """Whether it never jumps."""
        return self.step <= LARGEST_STEP

    def moves(self, usual: float) -> bool:
        """Whether it goes far enough, beside the mean displacement without an image."""
        return self.displacement >= LEAST_MOTION * usual


def key_scene(number: int) -> Scene:
    """The scene that the images of a clip are from."""
    return scene(KEY_SEED, number, concepts=[MOVING[number * STRIDE % len(MOVING)]])


def outcome(found: Track, shown: Scene, frames: Sequence[int]) -> Outcome:
    """What became of the images at some frames, which show a scene. A sprite that is not seen is a side away."""
    readings, places = found.readings, path(shown)
    across, down = HEADINGS[shown.heading]
    pairs = [(b.x - a.x, b.y - a.y) for a, b in itertools.pairwise(readings)]
    return Outcome(
        away=tuple(_known(math.hypot(readings[i].x - places[i][0], readings[i].y - places[i][1])) for i in frames),
        displacement=found.displacement if math.isfinite(found.displacement) else 0.0,
        backward=max(_known(-(x * across + y * down)) for x, y in pairs),
        step=max(_known(math.hypot(x, y)) for x, y in pairs),
    )


def measure(name: str, make: Make, frames: Sequence[int], clips: int = CLIPS) -> list[Outcome]:
    """The outcomes of clips that are given images at some frames."""
    return [measured(make, number, frames) for number in tqdm(range(clips), desc=f"{name}, {frames}", disable=None)]


def measured(make: Make, number: int, frames: Sequence[int]) -> Outcome:
    """The outcome of one clip."""
    shown = key_scene(number)
    return outcome(track(made(make, number, frames), shown.heading), shown, frames)


def made(make: Make, number: int, frames: Sequence[int]) -> Tensor:
    """One of an endless list of clips with images at some frames, f c h w from 0 to 1."""
    shown = key_scene(number)
    with tempfile.TemporaryDirectory() as folder:
        return make(shown.concept, GATE_SEED + number * SEEDS_APART, write_images(shown, frames, Path(folder)))


def write_images(shown: Scene, frames: Sequence[int], folder: Path) -> Paths:
    """Write the images of some frames of a scene."""
    pictures, images = to_bytes(clip(shown)), {}
    for frame in frames:
        images[frame] = folder / f"{frame}.png"
        Image.fromarray(pictures[frame].permute(1, 2, 0).contiguous().numpy()).save(images[frame])
    return images


def measure_keys(
    methods: Mapping[str, tuple[Make, Sequence[Sequence[int]]]], figures: Path, clips: int = CLIPS
) -> Iterator[str]:
    """Rows of two tables: clips from an image, and clips from one image to another.

    Args:
        methods: by name, with the frames that each can be given.
        figures: keeps what is measured, clip by clip, since all of it takes an hour; remove it to measure again.
        clips: of each row.
    """
    kept = json.loads(figures.read_text(encoding="utf-8")) if figures.is_file() else {}
    rows = {f"{name}, {frames}": (make, frames) for name, (make, given) in methods.items() for frames in given}
    for number in tqdm(range(clips), disable=None):
        for row, (make, frames) in rows.items():
            if len(kept.setdefault(row, [])) == number:
                kept[row].append(asdict(measured(make, number, frames)))
                with replacing(figures) as path:
                    path.write_text(json.dumps(kept), encoding="utf-8")
    yield from table({row: [Outcome(**each) for each in kept[row][:clips]] for row in rows})


def write_page(lines: Sequence[str], page: Path, picture: Path) -> None:
    """Write the page with the tables and the picture."""
    shown = Path(os.path.relpath(picture, page.parent)).as_posix()
    page.write_text("\n".join([INTRODUCTION, *lines, "", f"![{ALTERNATIVE}]({shown})", ""]), encoding="utf-8")


def table(found: dict[str, list[Outcome]]) -> Iterator[str]:
    """The rows, from the outcomes of each method by its name and frames."""
    (plain,) = (outcomes for row, outcomes in found.items() if row.startswith("without"))
    usual, clips = mean(each.displacement for each in plain), len(plain)
    yield f"| image at frame 0, {clips} clips | starts at it | moves on | both | both, without a jump | displacement |"
    yield "|---|---|---|---|---|---|"
    for name, outcomes in _of(found, FIRST):
        both = [each for each in outcomes if each.is_met and each.moves(usual)]
        cells = (sum(each.is_met for each in outcomes), sum(each.moves(usual) for each in outcomes), len(both))
        smooth, way = sum(each.is_smooth for each in both), mean(each.displacement for each in outcomes)
        yield f"| {name} | {' | '.join(map(str, cells))} | {smooth} | {way:.1f} |"
    yield ""
    yield f"| images at frames 0 and 15, {clips} clips | both met | monotone | both | both, without a jump |"
    yield "|---|---|---|---|---|"
    for name, outcomes in _of(found, ENDS):
        both = [each for each in outcomes if each.is_met and each.is_monotone]
        cells = (sum(each.is_met for each in outcomes), sum(each.is_monotone for each in outcomes), len(both))
        yield f"| {name} | {' | '.join(map(str, cells))} | {sum(each.is_smooth for each in both)} |"


def write_picture(folder: Path, picture: Path) -> None:
    """Columns: some clips. Rows: the scene of the images, and what each method makes of them."""
    models, rows = Models.load(folder), {"scene of\nthe images": [clip(key_scene(number)) for number in SHOWN]}
    for name, (make, given) in models.methods().items():
        for frames in given:
            label = name.replace(" with", "\nwith").replace(", ", ",\n")
            rows[f"{label}\n{' and '.join(map(str, frames))}"] = [made(make, number, frames) for number in SHOWN]
    shown = torch.stack([torch.stack(row) for row in rows.values()])  # rows columns f c h w
    pictures = [named(grid(shown[:, :, frame]), list(rows)) for frame in range(FRAMES)]
    write_gif(picture, pictures, fps=FPS)


def _of(found: dict[str, list[Outcome]], frames: Sequence[int]) -> Iterator[tuple[str, list[Outcome]]]:
    end = f", {tuple(frames)}"
    return ((row.removesuffix(end), outcomes) for row, outcomes in found.items() if row.endswith(end))


def _pins(images: Paths) -> tuple[Pin, ...]:
    return tuple(Pin(frame, path) for frame, path in sorted(images.items()))


def _known(away: float) -> float:
    return away if math.isfinite(away) else SIZE
