"""The picture that the README opens with: the same prompts and seeds without and with the motion module."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from lib_animatediff.builtin_model import POCKET
from lib_animatediff.hosts.diffusers.networks import LoraFile, add_loras
from lib_animatediff.video import write_gif
from motion_module import load_motion_module

from .evaluate import Make, animated, independent
from .pictures import grid
from .report import pipeline_of
from .world import Concept

SHOWN: tuple[Concept, ...] = (
    ("red", "disc", "right"),
    ("blue", "square", "up"),
    ("green", "cross", "left"),
    ("yellow", "disc", "down"),
)
SEED = 11
FPS = 8.0


MARGIN = 170  # pixels, for a row's name
TEXT = (70, 70, 70)


def write_showcase(folder: Path, path: Path) -> None:
    """Rows: the base and the style LoRA, each without and with the same motion module. Columns: `SHOWN`.

    Args:
        folder: ``lib_animatediff/builtin_model/pocket``, or another of its layout.
        path: the GIF to write.
    """
    motion = load_motion_module(folder / POCKET.motion)
    model = pipeline_of(folder / POCKET.checkpoint)
    rows = {"base": _row(independent(model)), "base\n+ motion module": _row(animated(model, motion))}
    add_loras(model, [LoraFile(folder / POCKET.style_lora)])
    rows |= {
        "style LoRA": _row(independent(model)),
        "style LoRA\n+ the same\nmotion module": _row(animated(model, motion)),
    }
    frames = torch.stack(list(rows.values()))  # rows columns f c h w
    pictures = [named(grid(frames[:, :, number]), list(rows)) for number in range(frames.shape[2])]
    write_gif(path, pictures, fps=FPS)


def _row(make: Make) -> Tensor:
    return torch.stack([make(concept, SEED) for concept in SHOWN])


def named(pictures: Image.Image, names: Sequence[str]) -> Image.Image:
    """The grid with a name to the left of each row."""
    canvas = Image.new("RGB", (MARGIN + pictures.width, pictures.height), "white")
    canvas.paste(pictures, (MARGIN, 0))
    pen = ImageDraw.Draw(canvas)
    for row, name in enumerate(names):
        middle = (row + 0.5) * pictures.height / len(names)
        pen.multiline_text((8, middle), name, fill=TEXT, font=ImageFont.load_default(18), anchor="lm")
    return canvas
