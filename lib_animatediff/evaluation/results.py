"""The figures as JSON, and what they were made with."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from .machine import machine_of, versions
from .measuring import Embedders
from .run import REFERENCES, EvaluatedClip, Evaluation
from .verdict import table


def results_of(wanted: Evaluation, clips: Sequence[EvaluatedClip], made: Sequence[tuple[str, str]]) -> str:
    """Everything that was measured, as JSON: means for each model and method, and each clip's figures."""
    found = {
        "made": dict(made),
        "means": {model.name: table([clip for clip in clips if clip.model == model.name]) for model in wanted.models},
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


def how_made(wanted: Evaluation, embedders: Embedders, command: str) -> list[tuple[str, str]]:
    """What the figures were made with, as names with values; no path, which may name a person."""
    how = wanted.how
    return [
        ("Command", command),
        ("Motion module", wanted.motion.name),
        (
            "Clips",
            f"{how.frames} frames of {how.size[0]}x{how.size[1]}, {how.sampler}, {how.steps} steps, CFG {how.cfg:g}, "
            f"{len(wanted.prompts)} prompts, {wanted.seeds} seeds each from {wanted.seed}",
        ),
        ("Noise levels", "the checkpoint's own, but with the motion module those that it was trained on"),
        ("References", f"{REFERENCES} stills of each prompt and model, of other seeds"),
        ("Embedder", embedders.main.name),
        ("Subject consistency by", embedders.subject.name),
        ("Optical flow", "OpenCV's DIS, medium, at 256 pixels of the shorter side"),
        ("Versions", versions()),
        ("Machine", machine_of(wanted.device)),
    ]
