"""Compute a UNet call in parts: one context window or clip at a time.

The ``forward`` of the UNet object is replaced during an injection. Each part passes through the host's own wrappers and
patches, while the sampler and the host see one call on the whole clip.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from motion_module import ClipError

from .batch import Fusion, index_batch
from .call import UNetCall, count_clips, count_rows, planning_step
from .context_windows import Chunks, ContextWindows, Window


@dataclass(frozen=True)
class _Part:
    """One call of the UNet: some clips' frames of one window, with their fusion weights."""

    clips: Sequence[int]
    window: Window
    weights: Sequence[float]

    def rows(self, frames: int) -> Tensor:
        return torch.tensor([clip * frames + frame for clip in self.clips for frame in self.window])


class WindowedForward:
    """Computes a call on whole clips from calls on its parts.

    Args:
        call: receives the frames of the part under way.
        windows: None for clips that are computed in one call.
        one_clip_per_call: compute each clip of each stream in separate calls.
        between: called after each part with the number of finished parts and the number of parts.
        unet: the UNet that is called.
    """

    def __init__(
        self,
        call: UNetCall,
        windows: ContextWindows | Chunks | None,
        *,
        one_clip_per_call: bool = False,
        between: Callable[[int, int], None] | None = None,
        unet: nn.Module | None = None,
    ) -> None:
        self._call = call
        self._frames = call.clip_frames
        self._windows = windows
        self._one_clip_per_call = one_clip_per_call
        self._between = between
        self._unet = unet
        self._busy = threading.Lock()

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The output of ``forward`` for these arguments, whose rows are ``(k b f)``.

        Raises:
            ClipError: the rows are not whole clips; or a call of the same UNet is under way.
        """
        if not self._busy.acquire(blocking=False):
            raise ClipError(
                "This UNet is already running a call: a clip and other code use it at the same time. "
                "Wait until the clip is finished.",
                code="AD-G30",
            )
        try:
            if self._call.in_window:  # an outer patch has chosen the frames
                return forward(*args, **kwargs)
            return self._compute(forward, args, kwargs)
        finally:
            self._busy.release()

    def _compute(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        self._call.begin(args, kwargs)
        rows = count_rows(args, kwargs)
        parts = self._parts(count_clips(rows, self._frames))
        if len(parts) == 1:
            with self._call.window(range(self._frames), args, kwargs):
                return forward(*args, **kwargs)
        if self._windows is not None and torch.is_grad_enabled() and _checkpoints_gradients(self._unet):
            raise ClipError(
                "Gradient checkpointing computes parts of the UNet again after the context windows have ended. "
                "Disable it (unet.disable_gradient_checkpointing()) or render clips that fit into one window; to "
                "sample without training, use torch.no_grad().",
                code="AD-G31",
            )
        fusion = Fusion(rows, on_cpu=self._windows is not None and self._windows.fuse_on_cpu)
        for done, part in enumerate(parts, 1):
            index = part.rows(self._frames)
            part_args, part_kwargs = index_batch(args, index, rows), index_batch(kwargs, index, rows)
            with self._call.window(part.window, part_args, part_kwargs, part.clips):
                output = forward(*part_args, **part_kwargs)
            fusion.add(output, index, [*part.weights] * len(part.clips))
            if self._between is not None:
                self._between(done, len(parts))
        return fusion.result()

    def _parts(self, clips: int) -> list[_Part]:
        groups: list[Sequence[int]] = [[clip] for clip in range(clips)] if self._one_clip_per_call else [range(clips)]
        windows, weights = [tuple(range(self._frames))], [[1.0] * self._frames]
        if self._windows is not None:
            windows = self._windows.plan(self._frames, planning_step(self._call))
            weights = [self._windows.weights(window, self._frames) for window in windows]
        return [_Part(group, *part) for group in groups for part in zip(windows, weights, strict=True)]


def _checkpoints_gradients(unet: nn.Module | None) -> bool:
    """Whether diffusers' gradient checkpointing is on. LDM's does not work with frozen weights, which this UNet has."""
    return unet is not None and any(getattr(layer, "gradient_checkpointing", False) for layer in unet.modules())
