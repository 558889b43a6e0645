"""The skip connections of a UNet, in LDM, sgm and diffusers.

A skip connection leads from the layers that make a feature on the way down to those that take it on the way up, beside
the feature from below. Connection 0 is the outermost: the first convolution and the last layer before the output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn

from .unet import unknown_unet

Layers = tuple[nn.Module, ...]


@dataclass(frozen=True)
class SkipConnection:
    """The layers at both ends of a skip connection, in the order in which they run.

    Attributes:
        down: the last of them makes the feature.
        up: the first of them takes ``(k b f) (c_below + c_skip) h w``, the feature from below in front.
    """

    down: Layers
    up: Layers


def skip_connections(unet: nn.Module) -> tuple[list[SkipConnection], Layers]:
    """The skip connections, outermost first, and the layers between the innermost one's ends.

    Raises:
        IncompatibleModelError: the UNet is of an unknown layout.
    """
    for names, layers_of in _HOSTS.items():
        if all(isinstance(getattr(unet, name, None), nn.Module) for name in names):
            return layers_of(unet)
    raise unknown_unet(unet)


def _ldm_layers(unet: Any) -> tuple[list[SkipConnection], Layers]:
    """LDM's and sgm's UNetModel: each block on the way down feeds one on the way up.

    The layers are those inside the blocks, since reForge calls these by themselves.
    """
    pairs = zip(unet.input_blocks, reversed(unet.output_blocks), strict=True)
    connections = [SkipConnection(tuple(down.children()), tuple(up.children())) for down, up in pairs]
    return connections, tuple(unet.middle_block.children())


def _diffusers_layers(unet: Any) -> tuple[list[SkipConnection], Layers]:
    """UNet2DConditionModel: each ResBlock on the way up takes one feature; blocks contain several."""
    down = [(unet.conv_in,), *(layers for block in unet.down_blocks for layers in _diffusers_down(block))]
    up = [layers for block in unet.up_blocks for layers in _diffusers_up(block)]
    connections = [SkipConnection(*ends) for ends in zip(down, reversed(up), strict=True)]
    return connections, () if unet.mid_block is None else (unet.mid_block,)


def _diffusers_down(block: Any) -> Iterator[Layers]:
    yield from _resblocks(block)
    samplers = tuple(getattr(block, "downsamplers", None) or ())
    if samplers:
        yield samplers


def _diffusers_up(block: Any) -> Iterator[Layers]:
    *others, last = _resblocks(block)
    yield from others
    yield (*last, *(getattr(block, "upsamplers", None) or ()))


def _resblocks(block: Any) -> Iterator[Layers]:
    """Each ResBlock with its spatial transformer, if it has one."""
    attentions = list(getattr(block, "attentions", None) or ())
    for number, resnet in enumerate(block.resnets):
        yield (resnet, *(layer for layer in attentions[number : number + 1] if layer is not None))


_HOSTS: dict[tuple[str, ...], Callable[[Any], tuple[list[SkipConnection], Layers]]] = {
    ("input_blocks", "middle_block", "output_blocks"): _ldm_layers,
    ("down_blocks", "up_blocks"): _diffusers_layers,
}
