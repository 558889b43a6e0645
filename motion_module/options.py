"""Per-call options of a temporal transformer: amount of motion, attention views, memory. Defaults run it as trained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

Multival = float | Tensor
"""One number for all frames and positions, or a tensor that broadcasts to ``f h w``."""

View = tuple[Sequence[int] | Tensor, Sequence[float] | Tensor]
"""Frames that attend to each other, as indices into the call, and their weights for averaging overlapping views.

Tensors on the device of the activations save a copy for each block; indices are int64 and weights float32.
"""

Merge = Callable[[Tensor, slice, int], Tensor]
"""What the first attention of a block attends with, from its tokens ``b f d c`` with their positions added.

It is called with these tokens, the spatial positions that they are, and the number of the view, 0 without views.
"""


@dataclass(frozen=True)
class TemporalOptions:
    """How the temporal transformer of one site runs.

    Attributes:
        scale: factor on the attention keys. Values above 1 increase the differences between frames, values below 1
            reduce them ("scale multival" in ComfyUI-AnimateDiff-Evolved).
        effect: factor on the transformer's output before it is added to the UNet's activations; 0 disables it.
        views: windows for the temporal attention, which must cover every frame. Empty: all frames attend to each other.
        start: the frame that has the first position, without views; the others follow it around the clip's end.
        pieces: number of spatial chunks to process one after the other, to save memory.
        merge: changes the tokens of the first attention, as CameraCtrl does; None: nothing does.
    """

    scale: Multival = 1.0
    effect: Multival = 1.0
    views: Sequence[View] = ()
    start: int = 0
    pieces: int = 1
    merge: Merge | None = None


DEFAULT = TemporalOptions()
