"""The units of the ControlNet extension in each call of the UNet: the hints and the weights of the call's rows.

The extension keeps one hint per frame for a call with all rows in one order. Here each call gets those of its own rows:
of a context window, of cond alone, of one clip. Calls with the same rows keep what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.call import UNetCall, count_clips
from lib_animatediff.engine.components.image_prompt import FlatMasks
from lib_animatediff.engine.host_tensor import Kept, copied

from .sources import UnitFrames

Encode = Callable[[Tensor], Tensor]
"""The latents of hints, both ``f c h w``."""


class InCalls(Protocol):
    """A model of a unit, or a part of it, that follows the calls of the UNet."""

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:
        """Prepare the model for a call with the latents ``x`` and the conditions ``context``."""


def place_of(call: UNetCall) -> tuple[object, ...]:
    """What the rows of a call are: equal for calls with the same rows."""
    return tuple(call.frames), call.rows, None if call.clips is None else tuple(call.clips)


def rows_of(call: UNetCall, full: Tensor, device: torch.device) -> Tensor:
    """Of ``f ...``, or ``(b f) ...`` with the frames of each clip of a batch, the rows ``(k b f) ...`` of a call.

    What is the same for all clips is copied to the device once, and repeated there.
    """
    if len(full) != call.clip_frames:
        return copied(call.for_frames(full), device)
    first, last = call.frames[0], call.frames[-1]
    follow = tuple(call.frames) == tuple(range(first, last + 1))
    part = copied(full[first : last + 1] if follow else full[list(call.frames)], device)
    return part.repeat(count_clips(call.rows, len(call.frames)), *[1] * (full.dim() - 1))


class HintsInCalls:
    """Hints ``f c h w`` of a ControlNet, a T2I adapter, or a reference.

    Args:
        param: the extension's parameters of the model.
        count: number of the frames' hints; the extension may have doubled them.
        encode: makes latents of the hints for those who compare latents; None: hints are enough. Each hint is encoded
            once, so that a frame has the same latents in every window.
    """

    def __init__(self, param: Any, count: int, encode: Encode | None = None) -> None:
        self._param = param
        self._low: Tensor = param.hint_cond[:count].clone()
        self._high: Tensor | None = None if param.hr_hint_cond is None else param.hr_hint_cond[:count].clone()
        param.hint_cond, param.hr_hint_cond = self._low, self._high
        self._encode = encode
        self._latents: dict[bool, Tensor] = {}
        self._last: object = None

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:  # noqa: ARG002 - see InCalls
        """Set the hints of the rows."""
        is_large = self._is_large(x)
        place = (place_of(call), is_large, x.device)
        if place == self._last:
            return
        self._last = place
        param = self._param
        shown = rows_of(call, self._high if is_large and self._high is not None else self._low, x.device)
        # The extension chooses one of the sizes by their shapes, so that one row of the other is enough.
        param.hint_cond = self._low[:1] if is_large else shown
        param.hr_hint_cond = shown if is_large else None if self._high is None else self._high[:1]
        if self._encode is not None:
            param.used_hint_cond = shown
            param.used_hint_cond_latent = rows_of(call, self._latents_of(is_large), x.device).to(x.dtype)

    def close(self) -> None:
        """Leave the hints of all frames, for the next pass."""
        self._param.hint_cond, self._param.hr_hint_cond = self._low, self._high

    def _is_large(self, x: Tensor) -> bool:
        """Whether the extension uses the hints of the second pass, whose height is nearer."""
        if self._high is None:
            return False
        height = x.shape[2] * 8
        return abs(height - self._low.shape[2]) >= abs(height - self._high.shape[2])

    def _latents_of(self, is_large: bool) -> Tensor:
        if is_large not in self._latents:
            assert self._encode is not None
            hints = self._high if is_large and self._high is not None else self._low
            self._latents[is_large] = self._encode(hints).cpu()
        return self._latents[is_large]


class OneImageInCalls:
    """One image for all frames, whose latents the extension repeats for the rows of its first call."""

    def __init__(self, param: Any) -> None:
        self._param = param
        self._rows = 0

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:  # noqa: ARG002 - see InCalls
        """Let the extension repeat them again for another number of rows."""
        if call.rows != self._rows:
            self._rows = call.rows
            self._param.hint_cond = self._param.hint_cond  # a property, which drops what was made of it


class LiteInCalls:
    """Hints of a ControlLLLite, whose modules keep what they make of them."""

    def __init__(self, param: Any, count: int) -> None:
        self._modules = list(param.control_model.modules.values())
        self._hints: Tensor = param.hint_cond[:count] * 2 - 1
        self._last: object = None

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:  # noqa: ARG002 - see InCalls
        """Set the hints of the rows."""
        place = (place_of(call), x.device)
        if place == self._last:
            return
        self._last = place
        shown = rows_of(call, self._hints, x.device)
        for module in self._modules:
            module.set_cond_image(shown)


class EmbeddingsInCalls:
    """Embeddings of an IP-Adapter's images, from which it makes keys and values once for a number of rows.

    Args:
        param: the extension's parameters of the model.
        outputs: what the preprocessor made of each frame's image; None: the extension's own embedding for all rows.
    """

    def __init__(self, param: Any, outputs: Sequence[Any] | None = None) -> None:
        self._adapter = param.control_model
        self._former = self._adapter.image_emb
        self._uncond: Tensor | None = None
        self._cond: Tensor | None = None
        if outputs is not None:
            made = [self._adapter.ipadapter.get_image_emb(output) for output in outputs]
            self._cond = torch.cat([one.cond_emb for one in made])
            self._uncond = made[0].uncond_emb
        self._caches: Kept[dict[Any, Any]] = Kept(most=2)  # of cond and of uncond

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:  # noqa: ARG002 - see InCalls
        """Set the embeddings of the rows, and the keys and values that were made of the same ones."""
        # The extension marks rows of cond by a positive token before the others, and mixes the embeddings by that.
        marks = tuple((context[:, 0, 0] > 0).tolist())
        self._adapter.cache = self._caches.get_or((place_of(call), marks), dict)
        if self._cond is not None:
            rows = rows_of(call, self._cond, self._cond.device)
            self._adapter.image_emb = self._former._replace(cond_emb=rows, uncond_emb=self._uncond)

    def close(self) -> None:
        """Put back the extension's own embedding."""
        self._adapter.image_emb, self._adapter.cache = self._former, {}


class ContextInCalls:
    """The ControlNet of an InstantID, which sees the embedding of the face in place of the text.

    Args:
        param: the extension's parameters of the model.
        adapter: the IP-Adapter of the unit before it, whose embedding it is.
    """

    def __init__(self, param: Any, adapter: Any) -> None:
        self._param = param
        self._adapter = adapter

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:  # noqa: ARG002 - see InCalls
        """Take over the embeddings of the rows. The IP-Adapter's own are set before."""
        self._param.control_context_override = self._adapter.image_emb


class RowAmounts:
    """How much a unit acts on each row of a call, and where.

    Args:
        amounts: ``(k b f) 1 h w``; the same everywhere if h and w are 1.
        size: height and width of the latents.
    """

    def __init__(self, amounts: Tensor, size: tuple[int, ...]) -> None:
        self.amounts = amounts
        self._flat = FlatMasks(amounts, size)

    def like(self, output: Tensor) -> Tensor:
        """The amounts for an output of a layer, ``(k b f) c h w`` or ``(k b f) n c``."""
        if output.dim() > 3:
            return F.interpolate(self.amounts.to(output), output.shape[2:], mode="area")
        if self.amounts.shape[2:] == (1, 1):
            return self.amounts.to(output).flatten(1)[..., None]
        return self._flat.at(output.shape[1]).to(output)


class AmountsInCalls:
    """How much a unit acts on each frame: a factor on its weight, a part of the steps, a mask.

    Args:
        unit: with one value for each frame of a clip.
        masks: ``f 1 h w``; None: it acts everywhere.
        reached: returns the share of the steps that is completed, as the extension counts it.
        take: receives the amounts of a call's rows.
    """

    def __init__(
        self, unit: UnitFrames, masks: Tensor | None, reached: Callable[[], float], take: Callable[[RowAmounts], None]
    ) -> None:
        self._weights = torch.tensor(unit.weights).view(-1, 1, 1, 1)
        self._parts = unit.parts
        self._masks = masks
        self._reached = reached
        self._take = take
        self._last: object = None

    def before_call(self, call: UNetCall, x: Tensor, context: Tensor) -> None:  # noqa: ARG002 - see InCalls
        """Pass on the amounts of the rows."""
        reached = self._reached() if self._parts else 0.0
        acting = tuple(start <= reached <= end for start, end in self._parts)  # the extension includes both
        size = tuple(x.shape[2:])
        place = (place_of(call), x.device, x.dtype, acting, size)
        if place == self._last:
            return
        self._last = place
        full = self._weights * torch.tensor(acting or (True,)).view(-1, 1, 1, 1)
        full = full if self._masks is None else full * self._masks
        self._take(RowAmounts(rows_of(call, full, x.device).to(x.dtype), size))


def weigh_residuals(param: Any, undo: ExitStack) -> Callable[[RowAmounts], None]:
    """How amounts reach the outputs of a ControlNet or a T2I adapter: as the mask of a region, which each row has."""
    former = param.effective_region_mask
    undo.callback(setattr, param, "effective_region_mask", former)

    def take(rows: RowAmounts) -> None:
        own = rows.amounts
        if former is not None:
            region = former.to(own)
            if own.shape[2:] != (1, 1):
                region = F.interpolate(region, own.shape[2:], mode="area")
            own = region * own
        param.effective_region_mask = own

    return take


def weigh_attention(param: Any, undo: ExitStack) -> Callable[[RowAmounts], None]:
    """How amounts reach what an IP-Adapter adds to an attention."""
    adapter = param.control_model
    masked = adapter.apply_effective_region_mask
    held: list[RowAmounts] = []

    def weighted(out: Tensor) -> Tensor:
        return masked(out) * held[0].like(out)  # type: ignore[no-any-return]

    adapter.apply_effective_region_mask = weighted
    undo.callback(delattr, adapter, "apply_effective_region_mask")

    def take(rows: RowAmounts) -> None:
        held[:] = [rows]

    return take


def weigh_lite(param: Any, undo: ExitStack) -> Callable[[RowAmounts], None]:
    """How amounts reach what the modules of a ControlLLLite add."""
    held: list[RowAmounts] = []

    def weighted(_module: nn.Module, _args: object, output: Tensor) -> Tensor:
        return output * held[0].like(output)

    for module in param.control_model.modules.values():
        undo.callback(module.register_forward_hook(weighted).remove)

    def take(rows: RowAmounts) -> None:
        held[:] = [rows]

    return take


def follow_hints(param: Any, unet: Any, undo: ExitStack, *, has_frames: bool) -> None:
    """Let a T2I adapter compute its features again for other hints, and with several hints leave out uncond by rows.

    Units with the same file share the adapter, which keeps its features until it is reset; and for one image it repeats
    them for all rows before it leaves out those of uncond.
    """
    adapter = param.control_model
    last: list[Any] = [None]

    def reset(_adapter: nn.Module, _args: object, kwargs: dict[str, Any]) -> None:
        if kwargs.get("hint") is not last[0]:
            last[0] = kwargs.get("hint")
            adapter.reset()

    undo.callback(adapter.register_forward_pre_hook(reset, with_kwargs=True).remove)
    undo.callback(adapter.reset)
    if not (has_frames and param.cfg_injection):
        return
    param.cfg_injection = False
    undo.callback(setattr, param, "cfg_injection", True)

    def leave_out_uncond(_adapter: nn.Module, _args: object, kwargs: dict[str, Any], outputs: Any) -> Any:
        if kwargs.get("hint") is not param.used_hint_cond:
            return outputs
        return [output * unet.cond_mark for output in outputs]

    undo.callback(adapter.register_forward_hook(leave_out_uncond, with_kwargs=True).remove)
