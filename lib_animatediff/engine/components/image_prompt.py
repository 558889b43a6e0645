"""An image prompt: each cross-attention also attends to tokens that were made of an image (arXiv 2308.06721).

An IP-Adapter has keys and values of its own for these tokens. What the same queries find there is added to what they
find in the text, before the output projection. So one hook on the projection of the queries and one in front of that of
the output serve LDM, sgm and diffusers, whatever computes the attention to the text.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.call import UNetCall, count_clips, input_of
from lib_animatediff.engine.host_tensor import HostTensor, Kept, copied
from lib_animatediff.engine.unet import UNetView, cross_attentions
from motion_module import ClipError, IncompatibleModelError

from .amounts import FrameAmounts, PerFrame
from .control import FrameHints

Mixture = tuple[int, int, float]
"""Of two images by their numbers, with the share of the second, 0.0 to 1.0."""


class FrameTokens:
    """The tokens of images for the frames of a clip, in main memory. Those of a UNet call are copied for it.

    Args:
        images: ``n t c``, the tokens of each image.
        nothing: ``t c``, the tokens that stand for no image, which uncond has.
        mixtures: one for each frame; None: frame i has image i.
    """

    def __init__(self, images: Tensor, nothing: Tensor, mixtures: Sequence[Mixture] | None = None) -> None:
        given = [(number, number, 0.0) for number in range(len(images))] if mixtures is None else mixtures
        self._images, self._nothing, self._mixtures = images.cpu(), nothing.cpu(), tuple(given)
        self._last: tuple[object, Tensor] | None = None

    def __len__(self) -> int:
        return len(self._mixtures)

    def of(self, frames: Sequence[int], is_cond: Sequence[bool], like: Tensor) -> Tensor:
        """``(k b f) t c``: the tokens of frames in the streams of a call, in the dtype and on the device of ``like``.

        The last result is kept, since a clip that fits into one window needs the same one at every step.

        Args:
            is_cond: for each stream and clip, whether it has the images.
        """
        key = (tuple(frames), tuple(is_cond), like.device, like.dtype)
        if self._last is None or self._last[0] != key:
            first, second, share = zip(*(self._mixtures[frame] for frame in frames), strict=True)
            shares = torch.tensor(share).view(-1, 1, 1)
            cond = torch.lerp(self._images[list(first)].float(), self._images[list(second)].float(), shares)
            uncond = self._nothing.float().expand_as(cond)
            rows = torch.cat([cond if each else uncond for each in is_cond])
            self._last = key, copied(rows.to(like.dtype), like.device)
        return self._last[1]

    def clear(self) -> None:
        """Drop the copy of the last tokens."""
        self._last = None


class ImagePromptComponent:
    """An IP-Adapter in a UNet. Several of them add up.

    Frames with a weight of 0 are not computed, and their rows stay as they are, bit for bit. In a call with an even
    number of clips, streams included, the first half is uncond and has no image, as in diffusers' pipelines. All clips
    of a call with an odd number have the images.

    Args:
        name: for messages.
        layers: the projections to keys and to values, ``inner c`` each, for each cross-attention: those on the way
            down, on the way up, and in the middle, as the files number them.
        tokens: of all frames of the clip, the same in every clip of a batch.
        weights: one per frame; the last one applies to all further frames.
        start, end: the part of the sampling in which it acts, from 0.0 to 1.0, for all frames or for each.
        masks: of each frame, ``n 1 H W``: how much it acts in each part of the image; None: everywhere.

    Raises:
        ClipError: a weight is not finite, or the part of the sampling is empty.
    """

    frames_at_once: int | None = None

    def __init__(
        self,
        name: str,
        layers: Sequence[tuple[Tensor, Tensor]],
        tokens: FrameTokens,
        weights: Sequence[float] = (1.0,),
        start: PerFrame = 0.0,
        end: PerFrame = 1.0,
        masks: FrameHints | None = None,
    ) -> None:
        self.name = name
        self._layers = layers
        self._tokens = tokens
        self._masks = masks
        self._amounts = FrameAmounts(name, weights, start, end)
        self._placed: PlacedTokens | None = None
        self._is_attached = False

    @property
    def placed(self) -> PlacedTokens | None:
        """The tokens of the UNet call under way; None: it has none."""
        return self._placed

    def acts_at(self, progress: float) -> Hashable:
        """Whether each frame with a part of its own is acted on at a completed share of the sampling."""
        return self._amounts.acting(progress)

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the hooks of the cross-attentions.

        Raises:
            ClipError: there are not tokens for as many frames as the clip has, or this object is attached already.
            IncompatibleModelError: the adapter was made for another base.
        """
        if self._is_attached:
            raise ClipError(
                f"{self.name} is in use by another injection. Create a new component for each injection.", code="AD-H62"
            )
        given = min(len(self._tokens), len(self._tokens if self._masks is None else self._masks))
        if given != call.clip_frames:
            raise ClipError(
                f"{self.name} has images for {given} frames, and the clip has {call.clip_frames}. Give one "
                "for each frame.",
                code="AD-H63",
            )
        attentions = cross_attentions(unet.module)
        fits = [
            _width_of(attention) == len(key) == len(value)
            for attention, (key, value) in zip(attentions, self._layers, strict=False)
        ]
        if len(attentions) != len(self._layers) or not all(fits):
            raise IncompatibleModelError(
                f"{self.name} was not made for this checkpoint's base: it has {len(self._layers)} cross-attentions, "
                f"and the checkpoint {len(attentions)}, of which {sum(fits)} have its widths. Choose an IP-Adapter for "
                "the checkpoint's base.",
                code="AD-H64",
            )
        for attention, weights in zip(attentions, self._layers, strict=True):
            hook = ImagePromptHook(self, attention, weights)
            undo.callback(attention.to_q.register_forward_hook(hook.note_queries).remove)
            undo.callback(_output_of(attention).register_forward_pre_hook(hook).remove)
        self._is_attached = True
        undo.callback(self._detach)

    def around_call(
        self, call: UNetCall, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Run the UNet with the tokens of the rows of one window.

        Raises:
            ClipError: the rows are not whole clips.
        """
        self._placed = self._place(call, input_of(args, kwargs))
        try:
            return forward(*args, **kwargs)
        finally:
            self._placed = None

    def _place(self, call: UNetCall, like: Tensor) -> PlacedTokens | None:
        rows = self._amounts.rows(call)
        if not rows.frames:
            return None
        tokens = self._tokens.of(rows.frames, _are_cond(call, count_clips(call.rows, len(call.frames))), like)
        masks = None if self._masks is None else FlatMasks(self._masks.of(rows.frames, like), tuple(like.shape[2:]))
        return PlacedTokens(tokens, rows.index, rows.weights, masks)

    def _detach(self) -> None:
        self._is_attached = False
        self._tokens.clear()
        if self._masks is not None:
            self._masks.clear()


@dataclass(frozen=True)
class PlacedTokens:
    """The tokens of a UNet call.

    Attributes:
        tokens: ``(k b f) t c`` of the frames with a weight.
        index: of their rows among those of the call; None: all of them.
        weights: one for each of these rows, or one number for all.
        masks: of the frames; None: everywhere.
    """

    tokens: Tensor
    index: HostTensor | None
    weights: HostTensor | float
    masks: FlatMasks | None


class FlatMasks:
    """The masks of a call for the positions of each attention, made once for each size.

    Args:
        masks: ``f 1 H W``.
        size: height and width of the latents.
    """

    def __init__(self, masks: Tensor, size: tuple[int, ...]) -> None:
        self._masks = masks
        self._size = size
        self._made: dict[int, Tensor] = {}

    def at(self, positions: int) -> Tensor:
        """``f n 1`` for a number of positions. A level halves height and width, and rounds up."""
        if positions not in self._made:
            sizes = ([-(-side // 2**level) for side in self._size] for level in range(8))
            size = next(each for each in sizes if each[0] * each[1] <= positions)
            self._made[positions] = F.interpolate(self._masks, size, mode="area").flatten(2).transpose(1, 2)
        return self._made[positions]


class ImagePromptHook:
    """Forward pre-hook of a cross-attention's output projection: adds what the queries find in the images.

    Args:
        attention: the cross-attention.
        weights: the projections to keys and to values.
    """

    def __init__(self, component: ImagePromptComponent, attention: Any, weights: tuple[Tensor, Tensor]) -> None:
        self._component = component
        self._heads = int(attention.heads)
        self._weights = weights
        self._queries: Tensor | None = None
        self._on_device: Kept[tuple[Tensor, Tensor]] = Kept(most=1)

    def note_queries(self, _layer: nn.Module, _inputs: object, output: Tensor) -> None:
        """Forward hook of the projection to queries: keep its output until the attention is computed."""
        self._queries = None if self._component.placed is None else output

    def __call__(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        placed, queries = self._component.placed, self._queries
        self._queries = None
        if placed is None or queries is None:
            return None
        x: Tensor = inputs[0]
        index = None if placed.index is None else placed.index.on(x.device)
        found = self._found(queries if index is None else queries[index], placed.tokens)
        if isinstance(placed.weights, HostTensor):
            found = found * placed.weights.on(x.device).to(found.dtype).view(-1, 1, 1)
        elif placed.weights != 1:
            found = found * placed.weights
        if placed.masks is not None:
            masks = placed.masks.at(found.shape[1]).to(found.dtype)
            found = found * masks.repeat(len(found) // len(masks), 1, 1)
        found = found.to(x.dtype)
        return (x + found if index is None else x.index_add(0, index, found), *inputs[1:])

    def _found(self, queries: Tensor, tokens: Tensor) -> Tensor:
        """``r n c`` for the queries of some rows, ``r n c``, in their tokens, ``r t c``."""
        to_key, to_value = self._on_device.get_or(
            (queries.device, queries.dtype),
            lambda: (self._copied(0, queries), self._copied(1, queries)),
        )
        tokens = tokens.to(queries.dtype)
        found = F.scaled_dot_product_attention(
            self._by_head(queries), self._by_head(F.linear(tokens, to_key)), self._by_head(F.linear(tokens, to_value))
        )
        return rearrange(found, "r h n c -> r n (h c)")

    def _copied(self, number: int, like: Tensor) -> Tensor:
        return copied(self._weights[number], like.device).to(like.dtype)

    def _by_head(self, x: Tensor) -> Tensor:
        return rearrange(x, "r n (h c) -> r h n c", h=self._heads)


def _are_cond(call: UNetCall, clips: int) -> list[bool]:
    """For each stream and clip in the rows of a call, whether it has the images."""
    whole = count_clips(call.whole_rows, call.clip_frames)
    places = range(clips) if call.clips is None else call.clips
    return [bool(whole % 2) or place >= whole // 2 for place in places]


def _width_of(attention: Any) -> int:
    return int(getattr(attention.to_q, "base_layer", attention.to_q).weight.shape[0])  # of a LoRA's layer


def _output_of(attention: Any) -> nn.Module:
    """The module that an attention calls on its result: diffusers calls the layers of a list one by one."""
    output = attention.to_out
    return output[0] if isinstance(output, nn.ModuleList) else output
