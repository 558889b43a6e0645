"""Group norms with statistics over a whole clip, for motion modules that were trained with them.

The first official training (v1) and HotShot-XL fed five-dimensional tensors to the UNet's ResBlocks, so that their
group norms, and that of the output, took mean and variance over all frames of a clip. The norms of spatial
transformers did not. Each norm keeps its class and its forward: a hook before it folds the frames of a clip into the
height, and a hook after it unfolds them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.unet import UNetView


def fold_group_norms(unet: UNetView, call: UNetCall, has_motion: Callable[[], bool], undo: ExitStack) -> None:
    """Compute the statistics of the ResBlocks' norms over whole clips, while a component that uses this has motion.

    Args:
        has_motion: whether the component has motion in the call under way.
        undo: removes the hooks.
    """
    unet.norm_users.append(has_motion)
    if len(unet.norm_users) > 1:  # another motion module has folded them
        return

    def is_active() -> bool:
        return any(user() for user in unet.norm_users)

    for norm in unet.resnet_norms:
        undo.callback(norm.register_forward_pre_hook(FoldFramesHook(call, is_active)).remove)
        undo.callback(norm.register_forward_hook(UnfoldFramesHook(call, is_active)).remove)


class FoldFramesHook:
    """Forward pre-hook of a norm: ``(b f) c h w -> b c (f h) w``, while there is motion."""

    def __init__(self, call: UNetCall, is_active: Callable[[], bool] = lambda: True) -> None:
        self._call = call
        self._is_active = is_active

    def __call__(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._is_active():
            return inputs
        x, *rest = inputs
        return (rearrange(x, "(b f) c h w -> b c (f h) w", f=self._call.frames_of(x.shape[0])), *rest)


class UnfoldFramesHook:
    """Forward hook of a norm: ``b c (f h) w -> (b f) c h w``, while there is motion."""

    def __init__(self, call: UNetCall, is_active: Callable[[], bool] = lambda: True) -> None:
        self._call = call
        self._is_active = is_active

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        if not self._is_active():
            return output
        return rearrange(output, "b c (f h) w -> (b f) c h w", f=len(self._call.frames))
