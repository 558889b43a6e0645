"""Where a motion module's transformers go in a UNet.

Official placement: at every resolution after each ResBlock with its spatial transformer, if it has one, and before an
Upsample or Downsample. So each site is named by the layer whose output the transformer continues. Layers are
recognised by class name, since each host ships its own copy of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import nn


@dataclass(frozen=True)
class Site:
    """One place for a temporal transformer.

    Attributes:
        name: the official name, such as ``up_blocks.1.motion_modules.2``.
        layer: the UNet's layer whose output goes through the transformer.
        channels: of that output.
        attends: whether the layer is a spatial transformer; else a ResBlock.
    """

    name: str
    layer: nn.Module
    channels: int
    attends: bool


_SPATIAL_TRANSFORMERS = ("SpatialTransformer", "Transformer2DModel")  # as LDM and diffusers call them


def find_sites(unet: nn.Module) -> list[Site] | None:
    """The sites of a UNet, middle block included, in the order of a forward pass; None for an unknown UNet."""
    for recognised, sites_of in _HOSTS:
        if recognised(unet):
            return sites_of(unet)
    return None


def _has(*names: str) -> Callable[[nn.Module], bool]:
    return lambda unet: all(isinstance(getattr(unet, name, None), nn.Module) for name in names)


def is_a(layer: nn.Module, *class_names: str) -> bool:
    """Whether a layer is of a class with one of these names, whichever host it comes from."""
    return any(base.__name__ in class_names for base in type(layer).__mro__)


def _ldm_sites(unet: Any) -> list[Site]:
    """Stable Diffusion's own UNetModel: flat lists of blocks, a resolution ends with a Downsample or Upsample."""
    return [
        *_ldm_path("down_blocks", unet.input_blocks),
        *_ldm_path("mid_block", [unet.middle_block]),
        *_ldm_path("up_blocks", unet.output_blocks),
    ]


def _ldm_path(path: str, blocks: Iterable[nn.Module]) -> list[Site]:
    sites: list[Site] = []
    level = index = 0
    for block in blocks:
        layers = list(block.children())
        images = [layer for layer in layers if is_a(layer, *_SPATIAL_TRANSFORMERS)]
        images = images or [layer for layer in layers if is_a(layer, "ResBlock")]
        if images:
            prefix = path if path == "mid_block" else f"{path}.{level}"
            sites.append(_site(f"{prefix}.motion_modules.{index}", images[-1]))
            index += 1
        if any(is_a(layer, "Downsample", "Upsample") for layer in layers):
            level, index = level + 1, 0
    return sites


def _diffusers_sites(unet: Any) -> list[Site]:
    """UNet2DConditionModel: blocks hold their ResBlocks and, where there are any, their spatial transformers."""
    return [
        *_diffusers_path("down_blocks", unet.down_blocks),
        *(_site("mid_block.motion_modules.0", layer) for layer in _diffusers_layers(unet.mid_block)[-1:]),
        *_diffusers_path("up_blocks", unet.up_blocks),
    ]


def _diffusers_path(path: str, blocks: Iterable[nn.Module]) -> list[Site]:
    return [
        _site(f"{path}.{level}.motion_modules.{index}", layer)
        for level, block in enumerate(blocks)
        for index, layer in enumerate(_diffusers_layers(block))
    ]


def _diffusers_layers(block: Any) -> list[nn.Module]:
    attentions = [layer for layer in getattr(block, "attentions", None) or () if layer is not None]
    return attentions or list(getattr(block, "resnets", ()))


def _site(name: str, layer: Any) -> Site:
    attends = is_a(layer, *_SPATIAL_TRANSFORMERS)
    return Site(name, layer, int(layer.in_channels if attends else layer.out_channels), attends)


_HOSTS: tuple[tuple[Callable[[nn.Module], bool], Callable[[nn.Module], list[Site]]], ...] = (
    (_has("input_blocks", "middle_block", "output_blocks"), _ldm_sites),
    (_has("down_blocks", "up_blocks"), _diffusers_sites),
)
