"""The result page: a single self-contained HTML file with light and dark scheme, for print and small screens."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from . import plots
from .direction import ASTRAY, CAMERA, STILL, UNRELATED
from .measuring import BACKGROUND, METRICS, PAPERS, SUBJECT, VBENCH, Embedders, Figures, Metric
from .methods import FROZEN, METHODS
from .run import EvaluatedClip, Evaluation
from .verdict import best, sentences, table

if TYPE_CHECKING:
    from .flow import Frames

_TEMPLATE = Path(__file__).with_name("page.html")
_LONGEST_SIDE = 192  # pixels of a clip on the page; the files have full size
_QUALITY = 80
_WENT = {
    "right": "→ right",
    "left": "← left",
    "up": "↑ up",
    "down": "↓ down",
    STILL: "■ still",
    CAMERA: "whole image moves",
    UNRELATED: "unrelated frames",
    ASTRAY: "back and forth",
}


@dataclass(frozen=True)
class About:
    """Context of the results.

    Attributes:
        made: names and values of the options and environment.
        notes: missing parts, and how to obtain them.
    """

    made: Sequence[tuple[str, str]]
    notes: Sequence[str] = ()


def page_of(evaluation: Evaluation, clips: Sequence[EvaluatedClip], embedders: Embedders, about: About) -> str:
    """The complete page as HTML, without external resources."""
    from jinja2 import Environment, StrictUndefined
    from markupsafe import Markup

    names = [model.name for model in evaluation.models]
    measured = [metric for metric in METRICS if any(clip.figures[metric.key] is not None for clip in clips)]
    if SUBJECT in measured and BACKGROUND in measured and embedders.subject is embedders.main:
        measured.remove(BACKGROUND)  # identical to subject consistency with the same embedder
    papers, vbench = ([metric for metric in group if metric in measured] for group in (PAPERS, VBENCH))
    models = []
    for model in evaluation.models:
        own = [clip for clip in clips if clip.model == model.name]
        figures = table(own)
        models.append(
            {
                "name": model.name,
                "about": model.about,
                "sentences": sentences(own),
                "scatter": Markup(plots.scatter(own, model.name)),
                "papers": _rows(figures, papers),
                "vbench": _rows(figures, vbench),
                "prompts": _prompts(evaluation, own),
            }
        )
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        _TEMPLATE.read_text(encoding="utf-8")
    )
    return template.render(
        facts={
            "prompts": len(evaluation.prompts),
            "seeds": f"{evaluation.seeds} seed{'s' if evaluation.seeds > 1 else ''} each",
        },
        models=models,
        together=sentences(clips) if len(models) > 1 else [],
        methods=METHODS,
        metrics=measured,
        paper_columns=papers,
        vbench_columns=vbench,
        legend=Markup(plots.legend()),
        bars=[
            {"title": metric.title, "svg": Markup(plots.bars(clips, names, metric))}
            for metric in plots.BARS
            if metric in measured
        ],
        notes=about.notes,
        made=about.made,
    )


def _rows(figures: Mapping[str, Figures], columns: Sequence[Metric]) -> list[dict[str, Any]]:
    winners = {metric.key: best(dict(figures), metric) for metric in columns}
    return [
        {
            "title": method.title,
            "control": method.is_control,
            "cells": [
                {"text": metric.show(figures[method.key][metric.key]), "best": method.key in winners[metric.key]}
                for metric in columns
            ],
        }
        for method in METHODS
    ]


def _prompts(evaluation: Evaluation, clips: Sequence[EvaluatedClip]) -> list[dict[str, Any]]:
    """The prompts with their clips: a row per seed, a column per method."""
    return [
        {
            "text": prompt.text,
            "heading": prompt.heading,
            "clips": [_clip(clip, evaluation.fps) for clip in clips if clip.prompt == prompt],
        }
        for prompt in evaluation.prompts
    ]


def _clip(clip: EvaluatedClip, fps: float) -> dict[str, Any]:
    correct = clip.figures["direction"] if clip.figures["stands"] is None else clip.figures["stands"]
    title = next(method.title for method in METHODS if method.key == clip.method)
    images = _small(clip.frames)
    return {
        "moving": _webp(images[:1] if clip.method == FROZEN.key else images, fps),
        "still": _webp(images[:1], fps),
        "width": images[0].width,
        "height": images[0].height,
        "alt": f"{clip.prompt.text}, seed {clip.seed}, {title}",
        "goes": _WENT[clip.goes],
        "verdict": None if correct is None else bool(correct),
    }


def _small(frames: Frames) -> list[Image.Image]:
    images = [Image.fromarray(frame) for frame in frames]
    scale = min(_LONGEST_SIDE / max(images[0].size), 1.0)
    size = (max(round(images[0].width * scale), 1), max(round(images[0].height * scale), 1))
    return images if scale == 1 else [image.resize(size, Image.Resampling.LANCZOS) for image in images]


def _webp(images: Sequence[Image.Image], fps: float) -> str:
    buffer = io.BytesIO()
    images[0].save(
        buffer,
        format="WEBP",
        save_all=len(images) > 1,
        append_images=list(images[1:]),
        duration=round(1000 / fps),
        loop=0,
        quality=_QUALITY,
        method=6,
    )
    return f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"
