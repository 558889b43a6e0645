"""Group norms that see a clip as a whole, for motion modules that were trained so.

The first official training (v1) and HotShot-XL gave the UNet's ResBlocks five-dimensional tensors, so that their group
norms, and that of the output, took mean and variance over all frames of a clip. The norms of spatial transformers did
not. Each norm keeps its class and forward: a hook before it lays a clip's frames over each other, one behind it undoes
that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from einops import rearrange
from torch import Tensor, nn

from lib_animatediff.engine.call import Clip
from lib_animatediff.engine.sites import is_a


def resnet_norms(unet: Any) -> Iterator[nn.Module]:
    """The group norms of a UNet's ResBlocks and of its output; LDM's, sgm's and diffusers' names."""
    for layer in unet.modules():
        if is_a(layer, "ResBlock"):
            yield from (layer.in_layers[0], layer.out_layers[0])
        elif is_a(layer, "ResnetBlock2D"):
            yield from (layer.norm1, layer.norm2)
    yield unet.out[0] if hasattr(unet, "out") else unet.conv_norm_out


class FoldFramesHook:
    """Forward pre-hook of a norm: ``(b f) c h w`` to ``b c (f h) w``, while there is motion."""

    def __init__(self, clip: Clip, has_motion: Callable[[], bool] = lambda: True) -> None:
        self._clip = clip
        self._moves = has_motion

    def __call__(self, _layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        if not self._moves():
            return inputs
        x, *rest = inputs
        return (rearrange(x, "(b f) c h w -> b c (f h) w", f=self._clip.frames_of(x.shape[0])), *rest)


class UnfoldFramesHook:
    """Forward hook of a norm: ``b c (f h) w`` to ``(b f) c h w``, likewise."""

    def __init__(self, clip: Clip, has_motion: Callable[[], bool] = lambda: True) -> None:
        self._clip = clip
        self._moves = has_motion

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        if not self._moves():
            return output
        return rearrange(output, "b c (f h) w -> (b f) c h w", f=self._clip.frames)
