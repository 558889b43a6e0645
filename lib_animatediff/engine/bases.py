"""Which base model a UNet belongs to, told by how its blocks are laid out, never by its width.

A resolution either has spatial transformers or has none; that pattern, on the way down, differs between all bases.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from motion_module import IncompatibleModelError, MotionModule
from motion_module.kinds import BASES

from .sites import Site, find_sites

_ATTENTION = {"sd15": (True, True, True, False), "sdxl": (False, True, True)}
_REFINER_ATTENTION = (False, True, True, False)
_SD2_TEXT_WIDTH = 1024
# Lists of blocks that image models have which are no UNets: SD3 and Flux, in their own code and in diffusers.
_TRANSFORMER_BLOCKS = ("joint_blocks", "double_blocks", "transformer_blocks")
_CHOOSE = "Choose a checkpoint of Stable Diffusion 1.5 or SDXL."


def require_unet(unet: object) -> None:
    """What is not even a part of a network: a pipeline, say, or nothing at all.

    Raises:
        IncompatibleModelError: with what to pass instead.
    """
    if not isinstance(unet, nn.Module):
        raise IncompatibleModelError(_unknown(unet))


def sites_for(motion: MotionModule, unet: nn.Module) -> list[Site]:
    """The UNet's sites that the motion module fills, in the order of a forward pass.

    Raises:
        IncompatibleModelError: the UNet is of a base that has no motion modules, or of another than ``motion``'s.
    """
    sites = any_sites(unet)
    base = _base_of(sites)
    if base is not None and base != motion.base:
        raise IncompatibleModelError(
            f"{motion.name} is made for {BASES[motion.base]}, this UNet is {BASES[base]}. "
            "Use a motion module made for the checkpoint's base."
        )
    widths = {name: transformer.proj_in.in_features for name, transformer in motion.sites()}
    by_name = {site.name: site for site in sites}
    needed = {name for name in by_name if not name.startswith("mid_block.")}
    if not needed <= set(widths) <= set(by_name):
        raise IncompatibleModelError(
            f"{motion.name} has {len(widths)} sites, this UNet has {len(by_name)}: they belong to different base "
            f"models. Use a checkpoint made from {BASES[motion.base]} with all its blocks."
        )
    for name, width in widths.items():
        if width != by_name[name].channels:
            raise IncompatibleModelError(
                f"{motion.name} is {width} channels wide at {name}, this UNet {by_name[name].channels}: they belong "
                "to different base models. Use a motion module made for the checkpoint's base."
            )
    return [site for site in sites if site.name in widths]


def any_sites(unet: nn.Module) -> list[Site]:
    """The sites of a UNet of whatever base.

    Raises:
        IncompatibleModelError: it is no UNet that we know.
    """
    sites = find_sites(unet)
    if not sites:
        raise IncompatibleModelError(_unknown(unet))
    return sites


def _base_of(sites: Sequence[Site]) -> str | None:
    """A key of `BASES`; None for a UNet of another plan, whose sites may still be those of a module made for it."""
    down = [site for site in sites if site.name.startswith("down_blocks.")]
    levels: dict[str, set[bool]] = {}
    for site in down:
        levels.setdefault(site.name.split(".")[1], set()).add(site.attends)
    pattern = tuple(any(attends) for attends in levels.values())
    if pattern == _REFINER_ATTENTION:
        raise IncompatibleModelError(
            "This is the SDXL refiner, for which there are no motion modules. Use the SDXL base model alone."
        )
    if pattern == _ATTENTION["sd15"] and _text_width(sites) == _SD2_TEXT_WIDTH:
        raise IncompatibleModelError(
            f"This is a Stable Diffusion 2 model, for which there are no motion modules. {_CHOOSE}"
        )
    base = next((name for name, attention in _ATTENTION.items() if attention == pattern), None)
    is_whole = all(len(attends) == 1 for attends in levels.values()) and _middle_attends(sites)
    if base is not None and not is_whole:
        raise IncompatibleModelError(
            f"This is {BASES[base]} with attention layers left out, as in SSD-1B: no motion module fits. {_CHOOSE}"
        )
    return base


def _middle_attends(sites: Sequence[Site]) -> bool:
    return any(site.attends for site in sites if site.name.startswith("mid_block."))


def _text_width(sites: Sequence[Site]) -> int | None:
    """Channels of the text condition, as the first cross-attention takes them."""
    for site in sites:
        for name, layer in site.layer.named_modules():
            if name.endswith("attn2.to_k"):
                return getattr(layer, "in_features", None)
    return None


def _unknown(unet: object) -> str:
    if any(hasattr(unet, name) for name in _TRANSFORMER_BLOCKS):
        return (
            f"{type(unet).__name__} is no UNet (models such as Stable Diffusion 3 and Flux have none): no motion "
            f"module fits. {_CHOOSE}"
        )
    return (
        f"{type(unet).__name__} is not a Stable Diffusion UNet that we know. Pass the UNet itself: "
        "sd_model.model.diffusion_model of an LDM model, pipeline.unet of a diffusers pipeline."
    )
