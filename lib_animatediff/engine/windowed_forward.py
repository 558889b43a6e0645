"""Run a UNet call in parts: context window by context window, clip by clip.

The UNet's ``forward`` is replaced on this one object for the time of an injection. So a part goes through all that the
host has put around and into its UNet, and sampler and host see one call on the whole clip.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from motion_module import ClipError, IncompatibleModelError

from .batch import Fusion, index_batch
from .call import Clip, count_clips
from .context_windows import Chunks, ContextWindows, Window
from .steps import Steps

_INPUT_NAMES = ("x", "sample")  # as LDM and diffusers call the first argument
_TIMESTEP_NAMES = ("timesteps", "timestep", "t")  # and the second

Run = Callable[[Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]


@dataclass(frozen=True)
class _Part:
    """What one call of the UNet computes: some clips' frames of one window, with their weights."""

    clips: Sequence[int]
    window: Window
    weights: Sequence[float]

    def rows(self, frames: int) -> Tensor:
        return torch.tensor([clip * frames + frame for clip in self.clips for frame in self.window])


class WindowedForward:
    """Computes a call on whole clips from calls on parts of it.

    Args:
        clip: is told how many frames the part under way has.
        frames: of the whole clip.
        windows: None for clips that go through in one piece.
        one_clip_per_call: give each clip of each stream calls of its own.
        between: called after each part with how many are done and how many there are.
        unet: what is called.
    """

    def __init__(
        self,
        clip: Clip,
        frames: int,
        windows: ContextWindows | Chunks | None,
        *,
        steps: Steps,
        one_clip_per_call: bool,
        between: Callable[[int, int], None] | None,
        unet: nn.Module | None = None,
    ) -> None:
        self._clip = clip
        self._frames = frames
        self._windows = windows
        self._steps = steps
        self._one_clip_per_call = one_clip_per_call
        self._between = between
        self._unet = unet
        self._busy = threading.Lock()

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``forward`` gives for these arguments, whose rows are ``(k b f)``.

        Raises:
            ClipError: the rows are not whole clips; or a call of the same UNet is under way.
        """
        if not self._busy.acquire(blocking=False):
            raise ClipError(
                "This UNet is in the middle of a call: it is being used for a clip and for something else at once. "
                "Wait until the clip is done."
            )
        try:
            return self._compute(forward, args, kwargs)
        finally:
            self._busy.release()

    def _compute(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        rows = count_rows(args, kwargs)
        parts = self._parts(count_clips(rows, self._frames), args, kwargs)
        if len(parts) == 1:
            with self._clip.of(range(self._frames)):
                return forward(*args, **kwargs)
        if self._windows is not None and torch.is_grad_enabled() and _computes_twice(self._unet):
            raise ClipError(
                "Gradient checkpointing computes parts of the UNet a second time, when the context windows are over. "
                "Switch it off (unet.disable_gradient_checkpointing()) or make clips that fit into one window; to "
                "sample without training, use torch.no_grad()."
            )
        fusion = Fusion(rows, on_cpu=self._windows is not None and self._windows.fuse_on_cpu)
        for done, part in enumerate(parts, 1):
            index = part.rows(self._frames)
            with self._clip.of(part.window):
                output = forward(*index_batch(args, index, rows), **index_batch(kwargs, index, rows))
            fusion.add(output, index, [*part.weights] * len(part.clips))
            if self._between is not None:
                self._between(done, len(parts))
        return fusion.result()

    def _parts(self, clips: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Part]:
        groups: list[Sequence[int]] = [[clip] for clip in range(clips)] if self._one_clip_per_call else [range(clips)]
        windows, weights = [tuple(range(self._frames))], [[1.0] * self._frames]
        if self._windows is not None:
            step = self._steps.of(timestep_of(args, kwargs))
            windows = self._windows.plan(self._frames, step)
            weights = [self._windows.weights(window, self._frames) for window in windows]
        return [_Part(group, *part) for group in groups for part in zip(windows, weights, strict=True)]


def _computes_twice(unet: nn.Module | None) -> bool:
    """Whether diffusers' switch is on. LDM's own does not work around frozen weights, which a UNet has here."""
    return unet is not None and any(getattr(layer, "gradient_checkpointing", False) for layer in unet.modules())


def count_rows(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Rows of a UNet call with these arguments."""
    return len(_argument(args, kwargs, 0, _INPUT_NAMES))


def timestep_of(args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The timestep argument of a UNet call: a number, or a tensor with one for each row."""
    return _argument(args, kwargs, 1, _TIMESTEP_NAMES)


def _argument(args: tuple[Any, ...], kwargs: dict[str, Any], place: int, names: tuple[str, ...]) -> Any:
    if len(args) > place:
        return args[place]
    given = [kwargs[name] for name in names if name in kwargs]
    if not given:
        raise ClipError(f"The UNet was called without its argument {' or '.join(map(repr, names))}.")
    return given[0]


class _Forward:
    """Stands in for ``unet.forward``; when its time is over but others still hold it, it passes through."""

    def __init__(self, unet: nn.Module, run: Run) -> None:
        self._unet = unet
        self._former: Callable[..., Any] = unet.forward
        self._was_set = "forward" in vars(unet)
        self._run: Run | None = run
        functools.update_wrapper(self, self._former, updated=())  # hosts read the signature

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._run is not None:
            return self._run(self._former, args, kwargs)
        self._take_off()
        return self._former(*args, **kwargs)

    def close(self) -> None:
        self._run = None
        self._take_off()

    def _take_off(self) -> None:
        attributes = vars(self._unet)
        if attributes.get("forward") is not self:
            return
        if self._was_set:
            attributes["forward"] = self._former
        else:
            del attributes["forward"]


@contextmanager
def patch_forward(unet: nn.Module, run: Run) -> Iterator[None]:
    """Let ``run`` answer the calls of this UNet inside the block, given the former ``forward`` and the arguments.

    Raises:
        IncompatibleModelError: the object does not let its ``forward`` be replaced.
    """
    forward = _Forward(unet, run)
    try:
        _replace(unet, forward)
        yield
    finally:
        forward.close()


def _replace(unet: nn.Module, forward: _Forward) -> None:
    try:
        unet.forward = forward
        replaced = vars(unet).get("forward") is forward
    except (AttributeError, TypeError, RuntimeError):
        replaced = False
    if not replaced:
        raise IncompatibleModelError(
            f"This {type(unet).__name__} does not let its forward be replaced, which context windows and "
            "Text2Video-Zero need. Make a clip of a motion module that fits into one window, with clips in one call."
        )
