"""Kept features, by row of the clip: stream, clip, window and frame, never by row of a UNet call.

Frames in the overlap of two windows have a feature in each, since the motion module sees other neighbours there.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

Key = tuple[int, tuple[int, ...]]
"""A clip, numbered over all streams (``k b``), and the frames of a window of it."""


class FeatureCache:
    """Features of a full step, for the steps that follow.

    Args:
        on_cpu: keep them in main memory.
    """

    def __init__(self, *, on_cpu: bool) -> None:
        self._on_cpu = on_cpu
        self._kept: dict[Key, Tensor] = {}

    def clear(self) -> None:
        """Drop everything."""
        self._kept.clear()

    def holds(self, keys: Sequence[Key]) -> bool:
        """Whether the features of all these rows are kept."""
        return all(key in self._kept for key in keys)

    def keep(self, keys: Sequence[Key], features: Tensor) -> None:
        """Keep ``(k b f) c h w``, the rows of one key after the other."""
        copied = features.detach().to("cpu" if self._on_cpu else features.device, copy=True)
        for key, rows in zip(keys, copied.chunk(len(keys)), strict=True):
            self._kept[key] = rows

    def write(self, keys: Sequence[Key], features: Tensor) -> None:
        """Write what was kept into ``(k b f) c h w``, in place."""
        for key, rows in zip(keys, features.chunk(len(keys)), strict=True):
            rows.copy_(self._kept[key])


class StreamOrder:
    """Numbers the clips of all streams over the UNet calls of one evaluation of the model.

    A host puts all streams into one call, or each into its own, in the same order at every step. Samplers such as Heun
    evaluate the model twice at one step.
    """

    def __init__(self) -> None:
        self._step = -1
        self._former: list[int] = []  # clips of each call of the last evaluation; empty: unknown
        self._calls: list[int] = []  # of the evaluation under way

    @property
    def is_first(self) -> bool:
        """Whether the call under way begins an evaluation."""
        return len(self._calls) == 1

    def next_call(self, step: int, clips: int) -> tuple[int, bool]:
        """The number of a call's first clip, and whether the last evaluation had the same call at this place."""
        if step != self._step or (self._former and len(self._calls) == len(self._former)):
            is_changed = bool(self._former) and self._calls != self._former
            self._former = [] if is_changed else self._calls
            self._step, self._calls = step, []
        first, place = sum(self._calls), len(self._calls)
        self._calls.append(clips)
        is_known = self._former[place : place + 1] == [clips]
        if not is_known:
            self._former = []
        return first, is_known
