"""The results as JSON, with the options and environment that they were made with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .machine import machine_of, versions
from .measuring import Embedders
from .run import REFERENCES, EvaluatedClip, Evaluation
from .verdict import table


def results_of(evaluation: Evaluation, clips: Sequence[EvaluatedClip], made: Sequence[tuple[str, str]]) -> str:
    """All results as JSON: means per model and method, and the metrics of each clip."""
    found = {
        "made": dict(made),
        "means": {
            model.name: table([clip for clip in clips if clip.model == model.name]) for model in evaluation.models
        },
        "clips": [_entry(clip) for clip in clips],
    }
    return json.dumps(found, indent=1)


def _entry(clip: EvaluatedClip) -> dict[str, Any]:
    return {
        "model": clip.model,
        "method": clip.method,
        "prompt": clip.prompt.text,
        "heading": clip.prompt.heading,
        "seed": clip.seed,
        "goes": clip.goes,
        "file": clip.file,
        **clip.figures,
    }


def how_made(evaluation: Evaluation, embedders: Embedders, command: str) -> list[tuple[str, str]]:
    """Options and environment, as names and values; without paths, which may be private."""
    how = evaluation.how
    return [
        ("Command", command),
        ("Motion module", evaluation.motion.name),
        (
            "Clips",
            f"{how.frames} frames of {how.size[0]}x{how.size[1]}, {how.sampler}, {how.steps} steps, CFG {how.cfg:g}, "
            f"{len(evaluation.prompts)} prompts, {evaluation.seeds} seeds each from {evaluation.seed}",
        ),
        ("Noise levels", "the checkpoint's own; with the motion module those of its training"),
        ("References", f"{REFERENCES} stills of each prompt and model, with other seeds"),
        ("Embedder", embedders.main.name),
        ("Subject consistency by", embedders.subject.name),
        ("Optical flow", "OpenCV's DIS, medium preset, at 256 pixels of the shorter side"),
        ("Versions", versions()),
        ("Machine", machine_of(evaluation.device)),
    ]
