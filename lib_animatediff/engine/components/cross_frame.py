"""Cross-frame attention, as Text2Video-Zero has it: in a UNet's self-attentions all frames look at a clip's first."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.bases import any_sites
from lib_animatediff.engine.batch import index_batch
from lib_animatediff.engine.call import Clip, count_clips
from lib_animatediff.engine.windowed_forward import Run, count_rows
from motion_module import IncompatibleModelError

_CONTEXTS = ("context", "encoder_hidden_states")  # as LDM and diffusers call what keys and values are made from
_QUERIES = ("x", "hidden_states")  # and what queries are made from
_OVER_TIME = "motion_modules"  # transformers of these have frames where those of pictures have places


def self_attentions(unet: nn.Module) -> list[nn.Module]:
    """The self-attentions of a UNet's spatial transformers, in LDM, sgm and diffusers.

    They are told by what a transformer block holds, since hosts and other extensions bring classes of their own.

    Raises:
        IncompatibleModelError: it is no UNet; or it has no self-attentions, or fused ones, that can look elsewhere.
    """
    any_sites(unet)
    found = [
        block.attn1
        for name, block in unet.named_modules()
        if all(isinstance(getattr(block, part, None), nn.Module) for part in ("attn1", "norm1", "ff"))
        and _OVER_TIME not in name
    ]
    if not found:
        raise IncompatibleModelError(
            "This UNet has no self-attention, which is how Text2Video-Zero holds a clip together. Choose another "
            "checkpoint."
        )
    if any("Fused" in type(getattr(attention, "processor", None)).__name__ for attention in found):
        raise IncompatibleModelError(
            "This UNet computes queries, keys and values in one, from the same frame. Call "
            "unfuse_qkv_projections() first."
        )
    return found


class CrossFrameAttentionHook:
    """Forward pre-hook with keyword arguments: keys and values come from frame 0 of the same clip and stream.

    An attention that is given something to look at (reference-only ControlNet, blocks without self-attention) keeps it.

    Args:
        clip: frames of the call under way.
        keyword: what the attention calls its keys' and values' source, if a call does not say.
    """

    def __init__(self, clip: Clip, keyword: str) -> None:
        self._clip = clip
        self._keyword = keyword

    def __call__(
        self, _attention: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
        keyword = next((name for name in _CONTEXTS if name in kwargs), self._keyword)
        given = args[1] if len(args) > 1 else kwargs.get(keyword)
        if given is not None:
            return None
        own = args[0] if args else next(kwargs[name] for name in _QUERIES if name in kwargs)
        seen = first_frames(own, self._clip.frames_of(len(own)))
        if len(args) > 1:
            return (args[0], seen, *args[2:]), kwargs
        return args, {**kwargs, keyword: seen}


def context_keyword(unet: nn.Module) -> str:
    """What the attentions of this UNet call the source of their keys and values."""
    return _CONTEXTS[hasattr(unet, "down_blocks")]


def first_frames(rows: Tensor, frames: int) -> Tensor:
    """``(k b f) ...``: each row replaced by frame 0 of its clip and stream."""
    by_clip = rows.reshape(-1, frames, *rows.shape[1:])
    return by_clip[:, :1].expand_as(by_clip).reshape(rows.shape)


class FirstFrameForward:
    """A call that may compute the first frame of each clip and stream only; other rows get the same.

    Attributes:
        active: whether it does so; else the call goes on as it would without.

    Args:
        clip: is told that there is one frame.
        frames: of the whole clip.
        otherwise: what answers the other calls; None: the UNet itself.
    """

    def __init__(self, clip: Clip, frames: int, otherwise: Run | None) -> None:
        self.active = False
        self._clip = clip
        self._frames = frames
        self._otherwise = otherwise

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``forward`` gives for these arguments, whose rows are ``(k b f)``.

        Raises:
            ClipError: the rows are not whole clips.
        """
        if not self.active:
            return forward(*args, **kwargs) if self._otherwise is None else self._otherwise(forward, args, kwargs)
        rows = count_rows(args, kwargs)
        clips = count_clips(rows, self._frames)
        first = torch.arange(0, rows, self._frames)
        with self._clip.of(range(1)):
            output = forward(*index_batch(args, first, rows), **index_batch(kwargs, first, rows))
        return index_batch(output, torch.arange(rows) // self._frames, clips)
