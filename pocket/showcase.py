"""The picture that the README opens with: the same prompts and seeds without and with the motion module."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from lib_animatediff.standalone import pocket as files
from lib_animatediff.standalone.networks import Added, add_loras
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


def write_showcase(folder: Path, path: Path) -> None:
    """Rows: independent frames, the base with the module, the style LoRA with the module. Columns: `SHOWN`.

    Args:
        folder: ``assets/pocket``, or another of its layout.
        path: the GIF to write.
    """
    motion = load_motion_module(folder / files.MOTION)
    base = pipeline_of(folder / files.CHECKPOINT)
    rows = [_row(independent(base)), _row(animated(base, motion))]
    if (folder / files.STYLE_LORA).is_file():
        add_loras(base, [Added(folder / files.STYLE_LORA)])
        rows.append(_row(animated(base, motion)))
    frames = torch.stack(rows)  # rows columns f c h w
    write_gif(path, [grid(frames[:, :, number]) for number in range(frames.shape[2])], fps=FPS)


def _row(make: Make) -> Tensor:
    return torch.stack([make(concept, SEED) for concept in SHOWN])
