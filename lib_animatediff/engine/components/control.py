"""A control network: it reads one hint per frame, and adds to the UNet's features in the rows of that frame.

A ControlNet (Zhang and others, arXiv 2302.05543) adds to the features on the skip connections and to the output of the
middle block. A T2I adapter (Mou and others, arXiv 2302.08453) adds to the last feature of each resolution on the way
down. The network runs once for each call of the UNet, inside the context windows, on the frames that it controls.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.batch import index_batch
from lib_animatediff.engine.call import UNetCall, added_of, context_of, input_of
from lib_animatediff.engine.host_tensor import HostTensor, copied
from lib_animatediff.engine.skip_connections import skip_connections
from lib_animatediff.engine.unet import UNetView
from motion_module import ClipError, IncompatibleModelError

from .amounts import ControlledRows, FrameAmounts, PerFrame

_LEVELS = 255  # of a hint with 8 bits


@dataclass(frozen=True)
class ControlInputs:
    """What a control network receives: some rows of a UNet call, ``(k b f)`` with the frames that it controls.

    Attributes:
        hints: ``f c H W``, 0 to 1, in the dtype and on the device of the latents. A call with the same frames as the
            one before has the same object.
        latents: ``(k b f) c h w``, as the UNet receives them.
        timesteps: ``(k b f)``.
        context: ``(k b f) n c``, the conditions.
        added: further conditions of SDXL, as the UNet receives them; None: there are none.
    """

    hints: Tensor
    latents: Tensor
    timesteps: Tensor
    context: Tensor
    added: Any = None

    def for_rows(self, full: Tensor) -> Tensor:
        """What was made of the hints, ``f ...``, for each row."""
        return full.repeat(len(self.latents) // len(self.hints), *[1] * (full.dim() - 1))


@dataclass(frozen=True)
class Residuals:
    """What is added to features of a UNet, ``(k b f) c h w`` or, the same for the whole image, ``(k b f) c 1 1``.

    Attributes:
        skips: one for each skip connection, the outermost first, added where the feature is taken on the way up; empty:
            none.
        middle: added to the output of the middle block; None: nothing.
        down: added to the feature at the beginning of a skip connection, so that the layers that follow see it. The
            number of the connection counts from the outermost one.
    """

    skips: Sequence[Tensor] = ()
    middle: Tensor | None = None
    down: Mapping[int, Tensor] = field(default_factory=dict)


class ControlNetwork(Protocol):
    """A network that turns hints into residuals.

    Attributes:
        name: the name in messages.
    """

    name: str

    def __call__(self, inputs: ControlInputs, /) -> Residuals:
        """The residuals at a weight of 1."""


class FrameHints:
    """The hints of a clip, one for each frame, in main memory. Those of a UNet call are copied for it.

    Args:
        images: ``n c H W`` in main memory; integers have 8 bits, other numbers are 0 to 1.
        order: for each frame of the clip, the number of its image; None: frame i has image i.
    """

    def __init__(self, images: Tensor, order: Sequence[int] | None = None) -> None:
        self.order = tuple(range(len(images)) if order is None else order)
        self._images = images
        self._last: tuple[object, Tensor] | None = None

    def __len__(self) -> int:
        return len(self.order)

    def of(self, frames: Sequence[int], like: Tensor) -> Tensor:
        """``f c H W``, 0 to 1: the hints of frames, in the dtype and on the device of ``like``.

        The last result is kept, since a clip that fits into one window needs the same one at every step.
        """
        key = (tuple(frames), like.device, like.dtype)
        if self._last is None or self._last[0] != key:
            self._last = None  # so that only one is in memory
            chosen = copied(torch.stack([self._images[self.order[frame]] for frame in frames]), like.device)
            hints = chosen.float() if chosen.is_floating_point() else chosen.float() / _LEVELS
            self._last = key, hints.to(like.dtype)
        return self._last[1]

    def clear(self) -> None:
        """Drop the copy of the last hints."""
        self._last = None


class ControlComponent:
    """A control network in a UNet. Several of them add up.

    It acts after the components before it, so that motion modules come first. Frames with a weight of 0 are not
    computed, and their rows stay as they are, bit for bit.

    Args:
        network: the network.
        hints: of all frames of the clip, the same in every clip of a batch.
        weights: one per frame; the last one applies to all further frames.
        start, end: the part of the sampling in which it acts, from 0.0 to 1.0, for all frames or for each.
        masks: of each frame, ``n 1 H W``: how much it acts in each part of the image; None: everywhere.

    Raises:
        ClipError: a weight is not finite, or the part of the sampling is empty.
    """

    frames_at_once: int | None = None

    def __init__(
        self,
        network: ControlNetwork,
        hints: FrameHints,
        weights: Sequence[float] = (1.0,),
        start: PerFrame = 0.0,
        end: PerFrame = 1.0,
        masks: FrameHints | None = None,
    ) -> None:
        self.name = network.name
        self._network = network
        self._hints = hints
        self._masks = masks
        self._amounts = FrameAmounts(network.name, weights, start, end)
        self._placed = PlacedResiduals()
        self._connections = 0  # of the UNet; 0: not attached

    def acts_at(self, progress: float) -> Hashable:
        """Whether each frame with a part of its own is acted on at a completed share of the sampling."""
        return self._amounts.acting(progress)

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the hooks that add the residuals.

        Raises:
            ClipError: there are not as many hints as frames, or this object is attached already.
            IncompatibleModelError: the UNet is of an unknown layout.
        """
        if self._connections:
            raise ClipError(
                f"{self.name} is in use by another injection. Create a new component for each injection.", code="AD-H03"
            )
        given = min(len(self._hints), len(self._hints if self._masks is None else self._masks))
        if given != call.clip_frames:
            raise ClipError(
                f"{self.name} has hints for {given} frames, and the clip has {call.clip_frames}. Give one "
                "hint for each frame.",
                code="AD-H04",
            )
        self._connections = add_hooks(self._placed, unet, call, undo)
        undo.callback(self._detach)

    def around_call(
        self, call: UNetCall, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the network, and then the UNet with its residuals, on the rows of one window.

        Raises:
            IncompatibleModelError: the network was made for another UNet.
            ClipError: the rows are not whole clips.
        """
        self._run(call, args, kwargs)
        try:
            return forward(*args, **kwargs)
        finally:
            self._placed.clear()

    def _run(self, call: UNetCall, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        rows = self._amounts.rows(call)
        if not rows.frames:
            return
        latents = input_of(args, kwargs)
        given = {
            "latents": latents,
            "timesteps": copied(call.timesteps, latents.device),
            "context": context_of(args, kwargs),
            "added": added_of(args, kwargs),
        }
        if rows.index is not None:
            given = index_batch(given, rows.index, call.rows)
        hints = self._hints.of(rows.frames, given["latents"])
        residuals = self._network(ControlInputs(hints, **given))
        if len(residuals.skips) not in (0, self._connections):
            raise IncompatibleModelError(
                f"{self.name} is for a UNet with {len(residuals.skips)} skip connections, and this one has "
                f"{self._connections}. Choose a control model for the checkpoint's base.",
                code="AD-H05",
            )
        masks = None if self._masks is None else self._masks.of(rows.frames, given["latents"])
        self._placed.put(residuals, rows, masks)

    def _detach(self) -> None:
        self._connections = 0
        self._hints.clear()
        if self._masks is not None:
            self._masks.clear()


class PlacedResiduals:
    """The residuals of the UNet call under way, for the hooks that add them."""

    def __init__(self) -> None:
        self._residuals: Residuals | None = None
        self._index: HostTensor | None = None
        self._weights: HostTensor | float = 1.0
        self._masks: Tensor | None = None

    def put(self, residuals: Residuals, rows: ControlledRows, masks: Tensor | None = None) -> None:
        """Set the residuals of a call, their rows, and the masks of the frames, ``f 1 H W``."""
        self._residuals, self._index, self._weights, self._masks = residuals, rows.index, rows.weights, masks

    def clear(self) -> None:
        """Drop the residuals, since the call has ended."""
        self._residuals = self._masks = None

    def on_skip(self, number: int) -> Tensor | None:
        """The residual of a skip connection; None: there is none."""
        return self._residuals.skips[number] if self._residuals is not None and self._residuals.skips else None

    def on_middle(self) -> Tensor | None:
        """The residual of the middle block; None: there is none."""
        return None if self._residuals is None else self._residuals.middle

    def on_down(self, number: int) -> Tensor | None:
        """What is added where a skip connection begins; None: nothing."""
        return None if self._residuals is None else self._residuals.down.get(number)

    def add_to(self, x: Tensor, residual: Tensor) -> None:
        """Add a residual to its rows of ``(k b f) c h w``, in place."""
        weighted = self._weighted(residual).to(x.dtype)
        if self._index is None:
            x.add_(weighted)
        else:
            x.index_add_(0, self._index.on(x.device), weighted.expand(-1, -1, *x.shape[2:]))

    def _weighted(self, residual: Tensor) -> Tensor:
        if self._masks is not None:
            masks = F.interpolate(self._masks, residual.shape[2:], mode="area").to(residual.dtype)
            residual = residual * masks.repeat(len(residual) // len(masks), 1, 1, 1)
        if isinstance(self._weights, HostTensor):
            return residual * self._weights.on(residual.device).to(residual.dtype).view(-1, 1, 1, 1)
        return residual if self._weights == 1 else residual * self._weights


def add_hooks(placed: PlacedResiduals, unet: UNetView, call: UNetCall, undo: ExitStack) -> int:
    """Add the hooks that add placed residuals to a UNet's features.

    Returns:
        The number of its skip connections.

    Raises:
        IncompatibleModelError: the UNet is of an unknown layout.
    """
    connections, middle = skip_connections(unet.module)
    for number, connection in enumerate(connections):
        skip, down = SkipHook(placed, number, call), DownHook(placed, number, call)
        undo.callback(connection.up[0].register_forward_pre_hook(skip).remove)
        undo.callback(connection.down[-1].register_forward_hook(down).remove)
    for layer in middle[-1:]:
        undo.callback(layer.register_forward_hook(MiddleHook(placed, call)).remove)
    return len(connections)


class SkipHook:
    """Forward pre-hook of the layer that takes a skip connection: adds to the feature behind the one from below."""

    def __init__(self, placed: PlacedResiduals, number: int, call: UNetCall) -> None:
        self._placed = placed
        self._number = number
        self._call = call

    def __call__(self, layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        residual = self._placed.on_skip(self._number)
        if residual is None or layer in self._call.skipped:
            return
        both: Tensor = inputs[0]  # made for this layer by joining two features, so that nothing else holds it
        self._placed.add_to(both[:, both.shape[1] - residual.shape[1] :], residual)


class DownHook:
    """Forward hook of the layer where a skip connection begins: adds to its output."""

    def __init__(self, placed: PlacedResiduals, number: int, call: UNetCall) -> None:
        self._placed = placed
        self._number = number
        self._call = call

    def __call__(self, layer: nn.Module, _inputs: object, output: Any) -> Any:
        residual = self._placed.on_down(self._number)
        return output if residual is None or layer in self._call.skipped else _sum(self._placed, output, residual)


class MiddleHook:
    """Forward hook of the middle block: adds to its output."""

    def __init__(self, placed: PlacedResiduals, call: UNetCall) -> None:
        self._placed = placed
        self._call = call

    def __call__(self, layer: nn.Module, _inputs: object, output: Any) -> Any:
        residual = self._placed.on_middle()
        return output if residual is None or layer in self._call.skipped else _sum(self._placed, output, residual)


def _sum(placed: PlacedResiduals, output: Any, residual: Tensor) -> Any:
    x = (output[0] if isinstance(output, tuple) else output).clone()
    placed.add_to(x, residual)
    return (x, *output[1:]) if isinstance(output, tuple) else x
