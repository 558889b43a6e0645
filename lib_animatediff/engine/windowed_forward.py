"""Compute a UNet call in parts: one context window or clip at a time.

The ``forward`` of the UNet object is replaced during an injection. Each part passes through the host's own wrappers and
patches, while the sampler and the host see one call on the whole clip.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from motion_module import ClipError

from .batch import Fusion, index_batch
from .call import UNetCall, count_clips, count_rows, planning_step
from .context_windows import Chunks, ContextWindows, Window
from .host_tensor import HostTensor, Kept


@dataclass(frozen=True)
class _Part:
    """One call of the UNet: some clips' frames of one window, with the index and the fusion weight of each row."""

    clips: Sequence[int]
    window: Window
    index: HostTensor
    weights: HostTensor


_Cut = tuple[_Part, tuple[Any, ...], dict[str, Any]]  # a part with the arguments for its rows


@dataclass(frozen=True)
class WindowCall:
    """A call of the UNet on the rows of one window, with all that an injection elsewhere needs to compute it.

    Attributes:
        frames: of the clip, in the order of the rows.
        clips: indices in ``k b`` of the clips in the rows.
        whole_rows: rows of the call on whole clips.
        step, progress: as of `UNetCall`.
        timestep: of all rows; None: it differs between them, or only the device has it.
        args, kwargs: of the UNet's forward, for these rows.
    """

    frames: Window
    clips: Sequence[int]
    whole_rows: int
    step: int
    progress: float
    timestep: float | None
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]

    def run(self, unet: nn.Module, call: UNetCall) -> Any:
        """The output of a UNet that has the same components and weights as the one whose clip is sampled.

        Args:
            call: of its injection.
        """
        call.place.set_host(self.step, self.progress, self.timestep)
        call.begin(self.args, self.kwargs)
        call.whole_rows = self.whole_rows
        with call.window(self.frames, self.args, self.kwargs, self.clips):
            return unet(*self.args, **self.kwargs)


Evaluate = Callable[[Sequence[WindowCall]], Iterable[Any]]
"""Computes windows of one call elsewhere. The outputs are in the order of the windows, and on their device."""


@dataclass(frozen=True)
class _Plan:
    """The parts of a call on whole clips, and the sum of the weights of each row. Made once for all calls like it."""

    parts: Sequence[_Part]
    weights: HostTensor


class WindowedForward:
    """Computes a call on whole clips from calls on its parts.

    Args:
        call: receives the frames of the part under way.
        windows: None for clips that are computed in one call.
        one_clip_per_call: compute each clip of each stream in separate calls.
        between: called after each part with the number of finished parts and the number of parts.
        unet: the UNet that is called.
        evaluate: computes the windows elsewhere; None: here, one after the other. Outputs are added in the order of the
            plan, so that the sum has the same bits wherever they come from.
    """

    def __init__(
        self,
        call: UNetCall,
        windows: ContextWindows | Chunks | None,
        *,
        one_clip_per_call: bool = False,
        between: Callable[[int, int], None] | None = None,
        unet: nn.Module | None = None,
        evaluate: Evaluate | None = None,
    ) -> None:
        self._call = call
        self._frames = call.clip_frames
        self._windows = windows
        self._one_clip_per_call = one_clip_per_call
        self._between = between
        self._unet = unet
        self._evaluate = evaluate
        self._busy = threading.Lock()
        self._plans: Kept[_Plan] = Kept()

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
        plan = self._plan(count_clips(rows, self._frames))
        if len(plan.parts) == 1:
            with self._call.window(range(self._frames), args, kwargs):
                return forward(*args, **kwargs)
        if self._windows is not None and torch.is_grad_enabled() and _checkpoints_gradients(self._unet):
            raise ClipError(
                "Gradient checkpointing computes parts of the UNet again after the context windows have ended. "
                "Disable it (unet.disable_gradient_checkpointing()) or render clips that fit into one window; to "
                "sample without training, use torch.no_grad().",
                code="AD-G31",
            )
        fusion = Fusion(plan.weights, on_cpu=self._windows is not None and self._windows.fuse_on_cpu)
        cut = (
            (part, index_batch(args, part.index, rows), index_batch(kwargs, part.index, rows)) for part in plan.parts
        )
        outputs = self._outputs(forward, cut) if self._evaluate is None else self._evaluate(self._calls(cut))
        for done, (part, output) in enumerate(zip(plan.parts, outputs, strict=True), 1):
            fusion.add(output, part.index, part.weights)
            if self._between is not None:
                self._between(done, len(plan.parts))
        return fusion.result()

    def _outputs(self, forward: Callable[..., Any], cut: Iterable[_Cut]) -> Iterator[Any]:
        for part, args, kwargs in cut:
            with self._call.window(part.window, args, kwargs, part.clips):
                output = forward(*args, **kwargs)
            yield output

    def _calls(self, cut: Iterable[_Cut]) -> list[WindowCall]:
        call = self._call
        place = call.step, call.progress, call.place.known_timestep
        return [
            WindowCall(part.window, tuple(part.clips), call.whole_rows, *place, args, kwargs)
            for part, args, kwargs in cut
        ]

    def _plan(self, clips: int) -> _Plan:
        # Only windows that move from step to step need the step, which may have to be read from the device.
        step = planning_step(self._call) if self._windows is not None and self._windows.follows_steps else 0
        return self._plans.get_or((clips, step), lambda: self._planned(clips, step))

    def _planned(self, clips: int, step: int) -> _Plan:
        groups: list[Sequence[int]] = [[clip] for clip in range(clips)] if self._one_clip_per_call else [range(clips)]
        windows, weights = [tuple(range(self._frames))], [[1.0] * self._frames]
        if self._windows is not None:
            windows = self._windows.plan(self._frames, step)
            weights = [self._windows.weights(window, self._frames) for window in windows]
        calls = [(group, *part) for group in groups for part in zip(windows, weights, strict=True)]
        sizes = [len(group) * len(window) for group, window, _ in calls]
        index = HostTensor(
            [clip * self._frames + frame for group, window, _ in calls for clip in group for frame in window]
        )
        given = HostTensor([weight for group, _, own in calls for _ in group for weight in own])
        total = torch.zeros(clips * self._frames)
        total.index_add_(0, index.on(total.device), given.on(total.device))
        indices, shares = index.parts(sizes), given.parts(sizes)
        parts = [_Part(group, window, *rows) for (group, window, _), *rows in zip(calls, indices, shares, strict=True)]
        return _Plan(parts, HostTensor(total))


def _checkpoints_gradients(unet: nn.Module | None) -> bool:
    """Whether diffusers' gradient checkpointing is on. LDM's does not work with frozen weights, which this UNet has."""
    return unet is not None and any(getattr(layer, "gradient_checkpointing", False) for layer in unet.modules())
