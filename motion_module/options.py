"""How the motion of one call is directed: how much of it, among which frames. The default is as trained."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

Multival = float | Tensor
"""A number for all, or ``(f h w)`` or what broadcasts to it: for each frame, at each position of the picture."""

View = tuple[Sequence[int], Sequence[float]]
"""Frames that attend to each other, numbered within the call, and how much each counts where views overlap."""


@dataclass(frozen=True)
class TemporalOptions:
    """What a person does to the motion of one site.

    Attributes:
        scale: factor on the keys, so on what the softmax over the frames sees: above 1 frames differ more, below 1
            less (as "scale multival" of ComfyUI AnimateDiff-Evolved).
        effect: how much of the motion is added to the picture model's frames; 0 leaves them alone.
        views: windows inside the temporal attention; every frame is in one at least. Empty: all frames see each other.
        pieces: into how many pieces the positions of the picture are cut, one computed after the other, to save memory.
    """

    scale: Multival = 1.0
    effect: Multival = 1.0
    views: Sequence[View] = ()
    pieces: int = 1


DEFAULT = TemporalOptions()
