"""The evaluation of the built-in model: what is compared, and the page with the results."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.builtin_model import POCKET
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
# Results of the built-in model

`python -m tools.pocket evaluate` writes this page. Each row covers clips with fixed seeds, of every concept of the
training world in turn, with 25 DDIM steps and CFG 3. The motion module was trained on the plain base model only. It was
never trained on the style LoRA and the fine-tuned checkpoint.

- `heading`: share of the clips that move in the direction of the caption.
- `displacement`: distance in that direction, in pixels.
- `monotone`: share of the steps between frames that go in that direction.
- `change`: mean difference of neighbouring frames.
- `subject`: share of the frames that show the colour, shape and nose of the caption.
- `style`: share of the frames in the model's style.
"""


def pipeline_of(checkpoint: Path) -> Any:
    """A diffusers pipeline of a checkpoint, without progress bars."""
    pipeline = load_pipeline(checkpoint)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def comparisons(folder: Path, tuned: Path | None, concepts: Sequence[Concept]) -> Iterator[Score]:
    """Score ground truth, controls, the base model and the models that the motion module was not trained on."""
    motion = load_motion_module(folder / POCKET.motion)
    base = pipeline_of(folder / POCKET.checkpoint)
    yield score("ground truth", truth, concepts=concepts)
    yield score("independent frames", independent(base), concepts=concepts)
    yield score("a frozen frame", frozen(independent(base, frames=1)), concepts=concepts)
    yield score("base + module", animated(base, motion), concepts=concepts)
    add_loras(base, [LoraFile(folder / POCKET.style_lora)])
    yield score("style LoRA + module", animated(base, motion), STYLE, concepts)
    if tuned is not None:
        yield score("fine-tuned + module", animated(pipeline_of(tuned), motion), STYLE, concepts)


def ablations(folder: Path, concepts: Sequence[Concept]) -> Iterator[Score]:
    """Score the motion module without some of its parts."""
    motion = load_motion_module(folder / POCKET.motion)
    base = pipeline_of(folder / POCKET.checkpoint)
    with without_positions(motion) as edited:
        yield score("no positional table", animated(base, edited), concepts=concepts)
    yield score("Stable Diffusion's schedule", animated(base, on_schedule(motion, SCALED_LINEAR)), concepts=concepts)


def zero_output(folder: Path, concepts: Sequence[Concept]) -> str:
    """Compare a motion module whose last layers are zero with plain images, in one sentence."""
    motion = load_motion_module(folder / POCKET.motion)
    base = pipeline_of(folder / POCKET.checkpoint)
    with without_output(motion) as edited:
        levels = largest_difference(animated(base, edited), independent(base, schedule=motion.schedule), concepts)
    return (
        f"With `proj_out` at zero, as at the start of a training, the frames of {len(concepts)} clips differ from a "
        f"plain batch with the same seeds and noise levels by at most {levels:g} of 255 levels."
    )


def pans(folder: Path, concepts: Sequence[Concept]) -> Iterator[Score]:
    """Score the motion LoRA at several strengths on standing sprites; displacement is measured to the right."""
    motion = load_motion_module(folder / POCKET.motion)
    base = pipeline_of(folder / POCKET.checkpoint)
    for strength in STRENGTHS:
        panning = with_motion_loras(motion, [LoraFile(folder / POCKET.motion_loras[0], strength)]).motion
        yield score(f"pan at {strength:g}", animated(base, panning), concepts=concepts, towards="right")


def write_report(folder: Path, tuned: Path | None, page: Path, say: Callable[[str], None]) -> None:
    """Evaluate everything and write the page.

    Args:
        folder: ``lib_animatediff/builtin_model/pocket``, or a folder with the same layout.
        tuned: fine-tuned checkpoint, which is not part of the package.
        page: Markdown file to write.
        say: called with each row as soon as it is measured.
    """
    still = [(colour, shape, "still") for colour, shape, heading in MOVING if heading == "left"]
    parts = (
        ("Compared", comparisons(folder, tuned, MOVING)),
        ("Ablations", ablations(folder, MOVING[::2])),
        ("A motion LoRA (pan) on standing sprites", pans(folder, still)),
    )
    lines = [INTRODUCTION]
    for title, scores in parts:
        found = []
        for each in scores:
            say(table([each]).splitlines()[-1])
            found.append(each)
        lines += [f"## {title}", "", table(found), ""]
    lines += ["## A motion module with zero output", "", zero_output(folder, MOVING[:2]), ""]
    page.write_text("\n".join(lines), encoding="utf-8")
