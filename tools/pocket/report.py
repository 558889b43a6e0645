"""The whole evaluation: who is compared, on what, and the page that says it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lib_animatediff import builtin_model as files
from lib_animatediff.hosts.diffusers.networks import LoraFile, add_loras, with_motion_loras
from lib_animatediff.hosts.diffusers.pipeline import load_pipeline
from motion_module import load_motion_module
from motion_module.schedules import SCALED_LINEAR

from .evaluate import (
    MOVING,
    Score,
    animated,
    frozen,
    independent,
    largest_difference,
    on_schedule,
    score,
    table,
    truth,
    without_output,
    without_positions,
)
from .recipe import StyleRecipe
from .world import Concept

STYLE = StyleRecipe().name
STRENGTHS = (0.0, 0.5, 1.0)

INTRODUCTION = """\
# What the built-in model's motion is worth

Written by `python -m tools.pocket evaluate`. Each line: clips with fixed seeds, each concept of the world in turn,
DDIM 25 steps, CFG 3. The motion module was trained on the plain base alone; the style LoRA and the fine-tuned
checkpoint are models that it never saw.

`heading`: share of the clips that go where the caption says. `displacement`: way along it in pixels. `monotone`: share
of the steps that go along it. `change`: mean difference of neighbouring frames. `subject`: share of the frames that
show colour, shape and nose of the caption. `style`: share of the frames in the model's style.
"""


def pipeline_of(checkpoint: Path) -> Any:
    """A quiet diffusers pipeline of a checkpoint."""
    pipeline = load_pipeline(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def comparisons(folder: Path, tuned: Path | None, concepts: Sequence[Concept]) -> Iterator[Score]:
    """Ground truth and controls, the base, and the models that the motion module never saw."""
    motion = load_motion_module(folder / files.MOTION)
    base = pipeline_of(folder / files.CHECKPOINT)
    yield score("ground truth", truth, concepts=concepts)
    yield score("independent frames", independent(base), concepts=concepts)
    yield score("a frozen frame", frozen(independent(base, frames=1)), concepts=concepts)
    yield score("base + module", animated(base, motion), concepts=concepts)
    add_loras(base, [LoraFile(folder / files.STYLE_LORA)])
    yield score("style LoRA + module", animated(base, motion), STYLE, concepts)
    if tuned is not None:
        yield score("fine-tuned + module", animated(pipeline_of(tuned), motion), STYLE, concepts)


def ablations(folder: Path, concepts: Sequence[Concept]) -> Iterator[Score]:
    """What each part of the module is good for."""
    motion = load_motion_module(folder / files.MOTION)
    base = pipeline_of(folder / files.CHECKPOINT)
    with without_positions(motion) as edited:
        yield score("no positional table", animated(base, edited), concepts=concepts)
    yield score("Stable Diffusion's schedule", animated(base, on_schedule(motion, SCALED_LINEAR)), concepts=concepts)


def zero_output(folder: Path, concepts: Sequence[Concept]) -> str:
    """What is left of the module when its last layers are zero, in a sentence."""
    motion = load_motion_module(folder / files.MOTION)
    base = pipeline_of(folder / files.CHECKPOINT)
    with without_output(motion) as edited:
        levels = largest_difference(animated(base, edited), independent(base, schedule=motion.schedule), concepts)
    return (
        f"With `proj_out` at zero (as a training begins), the frames of {len(concepts)} clips differ from the plain "
        f"batch of the same seeds and noise levels by at most {levels:g} of 255 levels."
    )


def pans(folder: Path, concepts: Sequence[Concept]) -> Iterator[Score]:
    """The motion LoRA at some strengths on sprites that stand: displacement is the way to the right."""
    motion = load_motion_module(folder / files.MOTION)
    base = pipeline_of(folder / files.CHECKPOINT)
    for strength in STRENGTHS:
        panning = with_motion_loras(motion, [LoraFile(folder / files.MOTION_LORA, strength)]).motion
        yield score(f"pan at {strength:g}", animated(base, panning), concepts=concepts, towards="right")


def write_report(folder: Path, tuned: Path | None, page: Path, say: Callable[[str], None]) -> None:
    """Evaluate everything and write the page.

    Args:
        folder: ``lib_animatediff/builtin_model/pocket``, or another of its layout.
        tuned: the fine-tuned checkpoint, which is not part of the package.
        page: Markdown file.
        say: prints a line as soon as it is known.
    """
    still = [(colour, shape, "still") for colour, shape, heading in MOVING if heading == "left"]
    parts = (
        ("Compared", comparisons(folder, tuned, MOVING)),
        ("Ablations", ablations(folder, MOVING[::2])),
        ("A motion LoRA (pan) on sprites that stand", pans(folder, still)),
    )
    lines = [INTRODUCTION]
    for title, scores in parts:
        found = []
        for each in scores:
            say(table([each]).splitlines()[-1])
            found.append(each)
        lines += [f"## {title}", "", table(found), ""]
    lines += ["## A module that adds nothing", "", zero_output(folder, MOVING[:2]), ""]
    page.write_text("\n".join(lines), encoding="utf-8")
