"""Frames behind pinned ones, which a sampler first leads to where the movement of these goes on.

Latents of neighbouring frames differ little, so that the next ones are guessed by adding the last difference again. For
the first steps the sampler is led to the guess, and from then on the frame is the model's. The frames of a continued
clip otherwise begin with the movement of any clip's first frames, and jump where they join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# Strengths of the frames by their distance from the last pinned one. With the built-in model, clips continued with them
# join without a visible seam, see `tools/benchmarks/continue_seams.py`.
STRENGTHS = (0.5, 0.7, 0.85)
_BACK = 2  # frames whose mean difference is added; a single one has more of the VAE's error


@dataclass(frozen=True)
class GuessedFrame:
    """A frame that is led.

    Attributes:
        frame: its number in the clip.
        latents: the guess, ``c h w``, float32.
        until: completed share of the sampling up to which it is led.
    """

    frame: int
    latents: Tensor
    until: float


def guessed_frames(latents: Tensor, pinned: Sequence[int], frames: int) -> list[GuessedFrame]:
    """The frames behind those that are pinned from frame 0 on without a gap.

    Args:
        latents: of the pinned frames, ``p c h w``.
        pinned: their numbers, ``p``, ascending.
        frames: of the clip.

    Returns:
        None of them is pinned itself. A single pinned frame shows no movement, so that no frame is guessed.
    """
    kept = next((place for place, frame in enumerate(pinned) if place != frame), len(pinned))
    if kept < 2:
        return []
    back = min(_BACK, kept - 1)
    last = latents[kept - 1].float()
    step = (last - latents[kept - 1 - back].float()) / back
    found = []
    for distance, strength in enumerate(STRENGTHS, 1):
        frame = kept - 1 + distance
        if frame < frames and frame not in pinned:
            found.append(GuessedFrame(frame, last + distance * step, 1 - strength))
    return found


def stacked(guesses: Sequence[GuessedFrame]) -> Tensor:
    """The latents of guesses: ``n c h w``."""
    return torch.stack([guess.latents for guess in guesses])
