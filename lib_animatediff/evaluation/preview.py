"""An animated grid of clips, as a preview of the page."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lib_animatediff.video import Encoding, write_clip

from .methods import METHODS
from .prompts import Prompt
from .run import EvaluatedClip, Evaluation

if TYPE_CHECKING:
    from PIL.Image import Image

_CELL = 120  # pixels of a clip's longer side
_GAP, _BETWEEN = 4, 14  # pixels between clips, and between models
_LEFT, _TOP = 150, 62  # pixels for labels
_EACH = 2  # prompts per model
_LETTERS = 19  # characters per line above a clip
_PAPER, _INK = (255, 255, 255), (40, 40, 40)


def write_preview(path: Path, evaluation: Evaluation, clips: Sequence[EvaluatedClip]) -> Path:
    """Write an animated WebP with a row per method, and one or two columns per model.

    Args:
        path: target.
        evaluation: each model shows the first prompts with different headings, with the first seed.
    """
    prompts = _prompts(evaluation.prompts)
    found = {(clip.method, clip.model, clip.prompt): clip.frames for clip in reversed(clips)}  # first seed wins
    cells = np.stack(
        [
            [[found[method.key, model.name, each] for each in prompts] for model in evaluation.models]
            for method in METHODS
        ]
    )  # methods models prompts f h w 3
    models, texts = [model.name for model in evaluation.models], [prompt.text for prompt in prompts]
    frames = [_drawn(cells[:, :, :, number], models, texts) for number in range(evaluation.how.frames)]
    (written,) = write_clip(path, frames, formats=["webp"], fps=evaluation.fps, encoding=Encoding(quality=75))
    return written


def _prompts(prompts: Sequence[Prompt]) -> list[Prompt]:
    """The first prompts with different headings."""
    by_heading: dict[str | None, Prompt] = {}
    for prompt in prompts:
        by_heading.setdefault(prompt.heading, prompt)
    return list(by_heading.values())[:_EACH]


def _drawn(cells: np.ndarray, models: Sequence[str], prompts: Sequence[str]) -> Image:
    from PIL import Image, ImageDraw, ImageFont

    height, width = cells.shape[-3:-1]
    scale = _CELL / max(height, width)
    size = (round(width * scale), round(height * scale))
    step = (size[0] + _GAP, size[1] + _GAP)
    wide = step[0] * len(prompts) + _BETWEEN
    canvas = Image.new("RGB", (_LEFT + wide * len(models) - _BETWEEN, _TOP + step[1] * len(METHODS)), _PAPER)
    pen, small, large = ImageDraw.Draw(canvas), ImageFont.load_default(12), ImageFont.load_default(14)
    for row, method in enumerate(METHODS):
        pen.text((6, _TOP + row * step[1] + size[1] / 2), method.title, fill=_INK, font=large, anchor="lm")
    for block, model in enumerate(models):
        pen.text((_LEFT + block * wide, 4), model, fill=_INK, font=large)
        for column, prompt in enumerate(prompts):
            left = _LEFT + block * wide + column * step[0]
            name = "\n".join(textwrap.wrap(prompt, _LETTERS, max_lines=2, placeholder="…"))
            pen.multiline_text((left, 26), name, fill=_INK, font=small)
            for row in range(len(METHODS)):
                image = Image.fromarray(cells[row, block, column]).resize(size, Image.Resampling.BICUBIC)
                canvas.paste(image, (left, _TOP + row * step[1]))
    return canvas
