"""The parts of a UNet in LDM, sgm and diffusers: sites of motion modules, group norms, self-attentions.

A *site* is the position of one temporal transformer: at every resolution after each ResBlock with its spatial
transformer, if it has one, and before an Upsample or Downsample (the official placement). The transformer processes the
output of the site's layer. Layers are recognised by class name, since each host ships its own copy of the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from motion_module import IncompatibleModelError

if TYPE_CHECKING:
    from .components.motion import TemporalRunner

_SPATIAL_TRANSFORMERS = ("SpatialTransformer", "Transformer2DModel")  # in LDM and diffusers
# Lists of blocks in image models without a UNet: SD3 and Flux, in their own code and in diffusers.
_TRANSFORMER_BLOCKS = ("joint_blocks", "double_blocks", "transformer_blocks")
_CONTEXT_NAMES = ("context", "encoder_hidden_states")  # the source of keys and values in LDM and in diffusers
_CHOOSE = "Choose a checkpoint of Stable Diffusion 1.5 or SDXL."
_TEMPORAL = "motion_modules"  # inside these, rows are positions and not frames


@dataclass(frozen=True)
class Site:
    """The position of one temporal transformer.

    Attributes:
        name: the official name, such as ``up_blocks.1.motion_modules.2``.
        layer: the UNet's layer whose output passes through the transformer.
        channels: of that output.
        attends: whether the layer is a spatial transformer; else it is a ResBlock.
    """

    name: str
    layer: nn.Module
    channels: int
    attends: bool


class UNetView:
    """The parts of a UNet for components. Each part is looked up once, when it is first needed.

    Args:
        unet: LDM's or sgm's ``UNetModel``, or diffusers' ``UNet2DConditionModel``.

    Attributes:
        module: the UNet.
        norm_users: used by `components.group_norms`: whether each component that folds the group norms has motion.
        motion_runners: of the motion modules that are attached, in their order, for components that steer one.
    """

    def __init__(self, unet: nn.Module) -> None:
        require_unet(unet)
        self.module = unet
        self.norm_users: list[Callable[[], bool]] = []
        self.motion_runners: list[TemporalRunner] = []

    @cached_property
    def sites(self) -> list[Site]:
        """All sites, middle block included, in the order of a forward pass.

        Raises:
            IncompatibleModelError: the UNet is of an unknown layout.
        """
        sites = find_sites(self.module)
        if not sites:
            raise unknown_unet(self.module)
        return sites

    @cached_property
    def resnet_norms(self) -> list[nn.Module]:
        """The group norms of the ResBlocks and of the output."""
        return list(resnet_norms(self.module))

    @cached_property
    def self_attentions(self) -> list[nn.Module]:
        """The self-attentions of the spatial transformers, see `self_attentions`."""
        return self_attentions(self.module)

    @property
    def first_convolution(self) -> nn.Module:
        """The convolution that receives the latents.

        Raises:
            IncompatibleModelError: the UNet is of an unknown layout.
        """
        unet: Any = self.module
        if hasattr(unet, "conv_in"):
            return unet.conv_in  # type: ignore[no-any-return]
        if hasattr(unet, "input_blocks"):
            return unet.input_blocks[0][0]  # type: ignore[no-any-return]
        raise unknown_unet(unet)

    @property
    def context_keyword(self) -> str:
        """The keyword by which this UNet's attentions take the source of their keys and values."""
        return _CONTEXT_NAMES[hasattr(self.module, "down_blocks")]


def require_unet(unet: object) -> None:
    """Refuse an object that is not a network, such as a pipeline.

    Raises:
        IncompatibleModelError: it is another object; the message names the object to pass.
    """
    if not isinstance(unet, nn.Module):
        raise unknown_unet(unet)


def find_sites(unet: nn.Module) -> list[Site] | None:
    """The sites of a UNet, middle block included, in the order of a forward pass; None for an unknown layout."""
    for recognised, sites_of in _HOSTS:
        if recognised(unet):
            return sites_of(unet)
    return None


def _has(*names: str) -> Callable[[nn.Module], bool]:
    return lambda unet: all(isinstance(getattr(unet, name, None), nn.Module) for name in names)


def is_a(layer: nn.Module, *class_names: str) -> bool:
    """Whether the layer's class, or a base class of it, has one of these names."""
    return any(base.__name__ in class_names for base in type(layer).__mro__)


def _ldm_sites(unet: Any) -> list[Site]:
    """Stable Diffusion's own UNetModel: flat lists of blocks; a resolution ends with a Downsample or Upsample."""
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
    """UNet2DConditionModel: blocks contain their ResBlocks and their spatial transformers, if any."""
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


def resnet_norms(unet: Any) -> Iterator[nn.Module]:
    """The group norms of a UNet's ResBlocks and of its output, in LDM, sgm and diffusers."""
    for layer in unet.modules():
        if is_a(layer, "ResBlock"):
            yield from (layer.in_layers[0], layer.out_layers[0])
        elif is_a(layer, "ResnetBlock2D"):
            yield from (layer.norm1, layer.norm2)
    yield unet.out[0] if hasattr(unet, "out") else unet.conv_norm_out


def self_attentions(unet: nn.Module) -> list[nn.Module]:
    """The self-attentions of a UNet's spatial transformers, in LDM, sgm and diffusers.

    They are recognised by the parts of a transformer block, since hosts and other extensions have their own classes.

    Raises:
        IncompatibleModelError: it is not a UNet, or its self-attentions are missing or have fused projections.
    """
    if not find_sites(unet):
        raise unknown_unet(unet)
    found = [
        block.attn1
        for name, block in unet.named_modules()
        if all(isinstance(getattr(block, part, None), nn.Module) for part in ("attn1", "norm1", "ff"))
        and _TEMPORAL not in name
    ]
    if not found:
        raise IncompatibleModelError(
            "This UNet has no self-attention, which Text2Video-Zero needs to keep the frames consistent. Choose "
            "another checkpoint.",
            code="AD-G26",
        )
    if any("Fused" in type(getattr(attention, "processor", None)).__name__ for attention in found):
        raise IncompatibleModelError(
            "This UNet computes queries, keys and values in one projection, from the same frame. Call "
            "unfuse_qkv_projections() first.",
            code="AD-G27",
        )
    return found


def cross_attentions(unet: nn.Module) -> list[Any]:
    """The attentions to the conditions, in the order in which files of IP-Adapters number them: those on the way down,
    on the way up, and in the middle.

    Raises:
        IncompatibleModelError: it is not a UNet of a known layout.
    """
    sites = find_sites(unet)
    if not sites:
        raise unknown_unet(unet)
    order = {"down_blocks": 0, "up_blocks": 1, "mid_block": 2}
    ordered = sorted(sites, key=lambda site: order[site.name.partition(".")[0]])
    return [
        module
        for site in ordered
        for name, module in site.layer.named_modules()
        if name.endswith(".attn2") and isinstance(getattr(module, "to_q", None), nn.Module)
    ]


def unknown_unet(unet: object) -> IncompatibleModelError:
    """The error for an object that is not a UNet of a known layout."""
    if any(hasattr(unet, name) for name in _TRANSFORMER_BLOCKS):
        return IncompatibleModelError(
            f"{type(unet).__name__} is not a UNet (models such as Stable Diffusion 3 and Flux have none), so no motion "
            f"module fits. {_CHOOSE}",
            code="AD-G28",
        )
    return IncompatibleModelError(
        f"{type(unet).__name__} is not a known Stable Diffusion UNet. Pass the UNet itself: "
        "sd_model.model.diffusion_model of an LDM model, pipeline.unet of a diffusers pipeline.",
        code="AD-G29",
    )


def is_compiled(unet: nn.Module) -> bool:
    """Whether layers are compiled. They silently ignore hooks that are added later (torch 2.13)."""
    return any(_is_compiled(module) for module in unet.modules())


def _is_compiled(module: nn.Module) -> bool:
    return (
        isinstance(module, torch.jit.ScriptModule)
        or type(module).__name__ == "OptimizedModule"
        or getattr(module, "_compiled_call_impl", None) is not None
        or hasattr(module.forward, "_torchdynamo_orig_callable")
    )
