"""Cross-frame attention: the self-attentions of every frame take their keys and values from frame 0 of the clip.

This keeps the frames of Text2Video-Zero consistent (Khachatryan and others, arXiv 2303.13439, section 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.batch import index_batch
from lib_animatediff.engine.call import UNetCall, count_clips, count_rows
from lib_animatediff.engine.host_tensor import HostTensor, Kept
from lib_animatediff.engine.patching import patch_forward
from lib_animatediff.engine.unet import UNetView
from motion_module import ClipError

_CONTEXT_NAMES = ("context", "encoder_hidden_states")  # the source of keys and values in LDM and in diffusers
_QUERY_NAMES = ("x", "hidden_states")  # the source of queries


class CrossFrameAttention:
    """Cross-frame attention in a UNet.

    Args:
        name: the name in messages.
    """

    frames_at_once: int | None = None
    needs_first_frame = True

    def __init__(self, name: str = "cross-frame attention") -> None:
        self.name = name
        self._first: FirstFrameForward | None = None

    def attach(self, unet: UNetView, call: UNetCall, undo: ExitStack) -> None:
        """Add the hooks of the self-attentions.

        Raises:
            IncompatibleModelError: the UNet has no self-attentions, or fused ones, or its forward cannot be replaced.
            ClipError: this object is attached already.
        """
        if self._first is not None:
            raise ClipError(
                f"This {self.name} is in use by another injection. Create a new one for each injection.", code="AD-G32"
            )
        hook = CrossFrameAttentionHook(call, unet.context_keyword)
        for attention in unet.self_attentions:
            undo.callback(attention.register_forward_pre_hook(hook, with_kwargs=True).remove)
        first = FirstFrameForward(call)
        undo.enter_context(patch_forward(unet.module, first))
        undo.callback(setattr, self, "_first", None)
        self._first = first

    @property
    def is_first_frame_only(self) -> bool:
        """Whether calls compute frame 0 only, see `first_frame_only`."""
        return self._first is not None and self._first.active

    @contextmanager
    def first_frame_only(self) -> Iterator[None]:
        """Inside the block, UNet calls compute frame 0 of each clip and stream; the other rows repeat it.

        Raises:
            ClipError: it is not attached to a UNet.
        """
        if self._first is None:
            raise ClipError(
                f"This {self.name} is not in a UNet. Call first_frame_only inside the inject block.", code="AD-G33"
            )
        first = self._first
        first.active = True
        try:
            yield
        finally:
            first.active = False


class CrossFrameAttentionHook:
    """Forward pre-hook with keyword arguments: keys and values come from frame 0 of the same clip and stream.

    A call with an explicit context (reference-only ControlNet, blocks without self-attention) keeps it.

    Args:
        call: the UNet call under way.
        keyword: the attention's keyword for the source of keys and values.
    """

    def __init__(self, call: UNetCall, keyword: str) -> None:
        self._call = call
        self._keyword = keyword

    def __call__(
        self, _attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        keyword = next((name for name in _CONTEXT_NAMES if name in kwargs), self._keyword)
        given = args[1] if len(args) > 1 else kwargs.get(keyword)
        if given is not None:
            return None
        own = args[0] if args else next(kwargs[name] for name in _QUERY_NAMES if name in kwargs)
        context = first_frames(own, self._call.frames_of(len(own)))
        if len(args) > 1:
            return (args[0], context, *args[2:]), kwargs
        return args, {**kwargs, keyword: context}


def first_frames(rows: Tensor, frames: int) -> Tensor:
    """``(k b f) ...``: each row replaced by frame 0 of its clip and stream."""
    by_clip = rows.reshape(-1, frames, *rows.shape[1:])
    return by_clip[:, :1].expand_as(by_clip).reshape(rows.shape)


class FirstFrameForward:
    """Computes frame 0 of each clip and stream only, and repeats it for the other rows, while it is active.

    Attributes:
        active: False: calls pass through.
    """

    def __init__(self, call: UNetCall) -> None:
        self.active = False
        self._call = call
        self._indices: Kept[tuple[HostTensor, HostTensor]] = Kept()

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The output of ``forward`` for these arguments, whose rows are ``(k b f)``.

        Raises:
            ClipError: the rows are not whole clips.
        """
        if not self.active:
            return forward(*args, **kwargs)
        rows, frames = count_rows(args, kwargs), self._call.clip_frames
        clips = count_clips(rows, frames)
        first, repeated = self._indices.get_or(
            rows, lambda: (HostTensor(torch.arange(0, rows, frames)), HostTensor(torch.arange(rows) // frames))
        )
        first_args, first_kwargs = index_batch(args, first, rows), index_batch(kwargs, first, rows)
        with self._call.window(range(1), first_args, first_kwargs):
            output = forward(*first_args, **first_kwargs)
        return index_batch(output, repeated, clips)
