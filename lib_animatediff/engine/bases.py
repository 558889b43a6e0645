"""Detects the base model of a UNet from the layout of its blocks, never from its width.

A resolution either has spatial transformers or has none. That pattern on the way down differs between all bases.
"""

from __future__ import annotations

from collections.abc import Sequence

from motion_module import IncompatibleModelError, MotionModule
from motion_module.kinds import BASES

from .unet import Site, UNetView

_ATTENTION = {"sd15": (True, True, True, False), "sdxl": (False, True, True)}
_REFINER_ATTENTION = (False, True, True, False)
_SD2_TEXT_WIDTH = 1024
_CHOOSE = "Choose a checkpoint of Stable Diffusion 1.5 or SDXL."


def sites_for(motion: MotionModule, unet: UNetView) -> list[Site]:
    """The sites for the transformers of a motion module, in the order of a forward pass.

    Raises:
        IncompatibleModelError: the UNet's base has no motion modules, or differs from that of ``motion``.
    """
    sites = unet.sites
    base = _base_of(sites)
    if base is not None and base != motion.base:
        raise IncompatibleModelError(
            f"{motion.name} is made for {BASES[motion.base]}, the checkpoint is {BASES[base]}. "
            "Use a motion module made for the checkpoint's base.",
            code="AD-G01",
        )
    widths = {name: transformer.proj_in.in_features for name, transformer in motion.sites()}
    by_name = {site.name: site for site in sites}
    needed = {name for name in by_name if not name.startswith("mid_block.")}
    if not needed <= set(widths) <= set(by_name):
        raise IncompatibleModelError(
            f"{motion.name} has {len(widths)} sites, this UNet has {len(by_name)}: they belong to different base "
            f"models. Use a checkpoint made from {BASES[motion.base]} with all its blocks.",
            code="AD-G02",
        )
    for name, width in widths.items():
        if width != by_name[name].channels:
            raise IncompatibleModelError(
                f"{motion.name} is {width} channels wide at {name}, this UNet {by_name[name].channels}: they belong "
                "to different base models. Use a motion module made for the checkpoint's base.",
                code="AD-G03",
            )
    return [site for site in sites if site.name in widths]


def _base_of(sites: Sequence[Site]) -> str | None:
    """A key of `BASES`; None for an unknown layout, whose sites may still fit a module that was made for it."""
    down = [site for site in sites if site.name.startswith("down_blocks.")]
    levels: dict[str, set[bool]] = {}
    for site in down:
        levels.setdefault(site.name.split(".")[1], set()).add(site.attends)
    pattern = tuple(any(attends) for attends in levels.values())
    if pattern == _REFINER_ATTENTION:
        raise IncompatibleModelError(
            "This is the SDXL refiner, for which there are no motion modules. Use the SDXL base model alone.",
            code="AD-G04",
        )
    if pattern == _ATTENTION["sd15"] and _text_width(sites) == _SD2_TEXT_WIDTH:
        raise IncompatibleModelError(
            f"This is a Stable Diffusion 2 model, for which there are no motion modules. {_CHOOSE}", code="AD-G05"
        )
    base = next((name for name, attention in _ATTENTION.items() if attention == pattern), None)
    is_complete = all(len(attends) == 1 for attends in levels.values()) and _middle_attends(sites)
    if base is not None and not is_complete:
        raise IncompatibleModelError(
            f"This is {BASES[base]} without some of its attention layers, as in SSD-1B, so no motion module fits. "
            f"{_CHOOSE}",
            code="AD-G06",
        )
    return base


def _middle_attends(sites: Sequence[Site]) -> bool:
    return any(site.attends for site in sites if site.name.startswith("mid_block."))


def _text_width(sites: Sequence[Site]) -> int | None:
    """Channels of the text condition, from the first cross-attention."""
    for site in sites:
        for name, layer in site.layer.named_modules():
            if name.endswith("attn2.to_k"):
                return getattr(layer, "in_features", None)
    return None
