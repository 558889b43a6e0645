"""The proof: does the motion module, trained on the plain base alone, move the base and models that it never saw?

Every moving concept once, with a fixed seed, beside what the figures mean: ground truth, independent frames (the same
seeds without a motion module) and a frozen frame, which would win every contest of smoothness.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import new_sampler
from motion_module import MotionModule
from motion_module.kinds import KINDS
from motion_module.schedules import BetaSchedule

from .gates import GATE_SEED
from .measure import Track, track
from .pictures import to_bytes
from .sampling import CFG, STEPS
from .world import CONCEPTS, FRAMES, HEADINGS, SIZE, Concept, caption, clip, scene

MOVING: tuple[Concept, ...] = tuple(concept for concept in CONCEPTS if concept[2] != "still")
LEAST_WAY = 4.0  # pixels; a sprite that ends nearer to where it began went nowhere
SEEDS_APART = 1000  # frame i takes seed + i

Make = Callable[[Concept, int], Tensor]  # concept and seed to frames, f c h w from 0 to 1


@dataclass(frozen=True)
class Score:
    """Means over clips.

    Attributes:
        name: of what made the clips.
        clips: how many.
        heading: share of the clips whose sprite went where the caption says.
        displacement: way along the heading in pixels.
        monotone: share of the steps between frames that go along the heading.
        change: mean absolute difference of neighbouring frames, of 1.
        subject: share of the frames that show colour, shape and nose of the caption.
        style: share of the frames in the style asked for.
    """

    name: str
    clips: int
    heading: float
    displacement: float
    monotone: float
    change: float
    subject: float
    style: float


def went(path: Track) -> str:
    """The heading that a clip's sprite went into, by its net way; "still" if it hardly moved."""
    first, last = path.readings[0], path.readings[-1]
    way = (last.x - first.x, last.y - first.y)
    if not math.hypot(*way) >= LEAST_WAY:  # also when a frame shows no sprite
        return "still"
    return max(HEADINGS, key=lambda name: sum(a * b for a, b in zip(HEADINGS[name], way, strict=True)))


def score(
    name: str, make: Make, style: str = "plain", concepts: Sequence[Concept] = MOVING, towards: str = ""
) -> Score:
    """Make a clip of each concept and measure it.

    Args:
        name: of the row.
        make: makes the clips.
        style: that the frames should have.
        concepts: one clip of each.
        towards: where the sprites should go, if not where the caption says.
    """
    found = []
    for number, concept in enumerate(tqdm(concepts, desc=name, disable=None)):
        found.append((concept, track(make(concept, GATE_SEED + number * SEEDS_APART), towards or concept[2])))
    return Score(
        name,
        len(found),
        heading=mean(went(path) == (towards or concept[2]) for concept, path in found),
        displacement=mean(path.displacement for _, path in found),
        monotone=mean(path.monotone for _, path in found),
        change=mean(path.change for _, path in found),
        subject=mean(path.share(concept) for concept, path in found),
        style=mean(mean(reading.style == style for reading in path.readings) for _, path in found),
    )


def mean(values: Iterable[float]) -> float:
    """Arithmetic mean; nan where a frame showed nothing to measure."""
    listed = [float(value) for value in values]
    return sum(listed) / len(listed)


def truth(concept: Concept, seed: int) -> Tensor:
    """The world itself."""
    return clip(scene(seed, 0, concepts=[concept]))


def animated(pipeline: Any, motion: MotionModule, **more: Any) -> Make:
    """Clips of a diffusers pipeline with a motion module; `more` goes to `animate`."""
    asked: dict[str, Any] = {"frames": FRAMES, "size": (SIZE, SIZE), "steps": STEPS, "cfg": CFG} | more

    def make(concept: Concept, seed: int) -> Tensor:
        pictures = animate(pipeline, motion, prompt=caption(concept), seed=seed, **asked)
        return torch.stack([to_tensor(picture) for picture in pictures])

    return make


def independent(pipeline: Any, frames: int = FRAMES, schedule: BetaSchedule | None = None) -> Make:
    """A batch of pictures with the seeds that a clip would have; on the noise levels of a schedule, if one is given."""

    def make(concept: Concept, seed: int) -> Tensor:
        former = pipeline.scheduler
        if schedule is not None:
            pipeline.scheduler = new_sampler("ddim", former, schedule)
        try:
            return paint(concept, seed)
        finally:
            pipeline.scheduler = former

    def paint(concept: Concept, seed: int) -> Tensor:
        return paint_batch(pipeline, caption(concept), seed, SIZE, frames)

    return make


def paint_batch(pipeline: Any, prompt: str, seed: int, size: int, frames: int) -> Tensor:
    """Pictures of one prompt with the seeds that the frames of a clip have, f c h w from 0 to 1."""
    pictures: Tensor = pipeline(
        prompt,
        num_images_per_prompt=frames,
        generator=[torch.Generator().manual_seed(seed + frame) for frame in range(frames)],
        height=size,
        width=size,
        num_inference_steps=STEPS,
        guidance_scale=CFG,
        output_type="pt",
    ).images
    return pictures


def frozen(make: Make) -> Make:
    """The first frame again and again."""
    return lambda concept, seed: make(concept, seed)[:1].expand(FRAMES, -1, -1, -1)


@contextmanager
def without_positions(motion: MotionModule) -> Iterator[MotionModule]:
    """The motion module with its positional tables at zero: it no longer knows which frame is which."""
    with _zero([table for name, table in motion.named_buffers() if name.endswith(".pe")]):
        yield motion


@contextmanager
def without_output(motion: MotionModule) -> Iterator[MotionModule]:
    """The motion module with every `proj_out` at zero, as it begins its training: it adds nothing to the UNet."""
    with _zero([weight for _, transformer in motion.sites() for weight in transformer.proj_out.parameters()]):
        yield motion


@contextmanager
def _zero(tensors: Sequence[Tensor]) -> Iterator[None]:
    kept = [tensor.detach().clone() for tensor in tensors]
    with torch.no_grad():
        try:
            for tensor in tensors:
                tensor.zero_()
            yield
        finally:
            for tensor, values in zip(tensors, kept, strict=True):
                tensor.copy_(values)


def largest_difference(one: Make, other: Make, concepts: Sequence[Concept]) -> float:
    """Between the frames of both, of 255 levels."""
    seeds = [GATE_SEED + number * SEEDS_APART for number in range(len(concepts))]
    pairs = [(one(concept, seed), other(concept, seed)) for concept, seed in zip(concepts, seeds, strict=True)]
    return max(float((to_bytes(a).int() - to_bytes(b).int()).abs().max()) for a, b in pairs)


def on_schedule(motion: MotionModule, schedule: BetaSchedule) -> MotionModule:
    """The same motion module as if it had been trained on another schedule."""
    kind = replace(KINDS[motion.kind], schedule=schedule)
    return MotionModule.from_state_dict(motion.state_dict(), motion.layout, kind, motion.name)


def to_tensor(picture: Any) -> Tensor:
    """A Pillow picture as c h w from 0 to 1."""
    import numpy

    return torch.from_numpy(numpy.asarray(picture, dtype=numpy.float32) / 255).permute(2, 0, 1)


def table(scores: Sequence[Any]) -> str:
    """Rows, dataclasses of one kind, as a Markdown table."""
    names = [field.name for field in fields(scores[0])]
    rows = [[_cell(getattr(each, name)) for name in names] for each in scores]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
