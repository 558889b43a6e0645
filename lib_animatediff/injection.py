"""Put a motion module into a UNet and take it out again.

Each transformer runs in a forward hook on the layer it follows, which gives the numbers of an inserted layer. Nothing
in the UNet moves: names, weights and indices stay what other code knows them by, and a hook comes off by its handle.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy

import torch
from torch import Tensor, nn

from motion_module import ClipError, IncompatibleModelError, MotionModule
from motion_module.network import TemporalTransformer

from .sites import Site, find_sites


@contextmanager
def inject(unet: nn.Module, motion: MotionModule, *, frames: int) -> Iterator[None]:
    """Make every call of ``unet`` inside the block a call on clips; leave it bit for bit as it was.

    Rows of a call are ``(k b f) c h w``: streams (cond, uncond, ...; any number, together or in calls of their own)
    times clips times ``frames``, the frames of a clip side by side.

    The motion module follows the device and dtype of what flows through the UNet. Where its own differ, a copy is
    made for the time of the block, so that the caller's module keeps its precision. A module with trainable weights
    is never copied: gradients reach it.

    Args:
        unet: an LDM ``UNetModel`` or a diffusers ``UNet2DConditionModel`` of Stable Diffusion 1.5's topology.
        motion: what ``load_motion_module`` gave.
        frames: frames of a clip, from 1 to the module's trained length.

    Raises:
        IncompatibleModelError: the UNet has other sites or widths, is compiled, or carries a motion module already.
        ClipError: ``frames`` is out of range; or, inside, a call whose rows are not whole clips.
    """
    check_frames(motion, frames)
    pairs = _match(unet, motion)
    resident = _Resident(motion)
    with ExitStack() as hooks:
        for site in pairs:
            hook = _SiteHook(resident, site.name, frames)
            hooks.callback(site.layer.register_forward_hook(hook).remove)
        yield


def check_frames(motion: MotionModule, frames: int) -> None:
    """Whether ``motion`` can make clips of so many frames.

    Raises:
        ClipError: no frame at all, or more than it was trained on.
    """
    if frames < 1:
        raise ClipError(f"A clip needs at least one frame, not {frames}.")
    if frames > motion.trained_length:
        raise ClipError(
            f"{motion.name} was trained on clips of {motion.trained_length} frames; {frames} are too many. "
            f"Lower the number of frames to {motion.trained_length} or less."
        )


def _match(unet: nn.Module, motion: MotionModule) -> list[Site]:
    """The UNet's sites that the motion module fills, after every reason to refuse has been looked for."""
    _refuse_compiled(unet)
    sites = find_sites(unet)
    if not sites:
        raise IncompatibleModelError(
            f"{type(unet).__name__} is not a Stable Diffusion UNet that we know. Pass the UNet itself: "
            "sd_model.model.diffusion_model of an LDM model, pipeline.unet of a diffusers pipeline."
        )
    _refuse_occupied(sites)
    by_name = {site.name: site for site in sites}
    widths = {name: transformer.proj_in.in_features for name, transformer in motion.sites()}
    needed = {name for name in by_name if not name.startswith("mid_block.")}
    if not needed <= set(widths) <= set(by_name):
        raise IncompatibleModelError(
            f"{motion.name} has {len(widths)} sites, this UNet has {len(by_name)}: they belong to different base "
            "models. Use a motion module made for the checkpoint's base (Stable Diffusion 1.5)."
        )
    for name, width in widths.items():
        if width != by_name[name].channels:
            raise IncompatibleModelError(
                f"{motion.name} is {width} channels wide at {name}, this UNet {by_name[name].channels}: they belong "
                "to different base models. Use a motion module made for the checkpoint's base."
            )
    return [site for site in sites if site.name in widths]


def _refuse_compiled(unet: nn.Module) -> None:
    # A compiled module ignores hooks added later, without a word (torch 2.13).
    if any(
        type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None
        for module in unet.modules()
    ):
        raise IncompatibleModelError("This UNet is compiled and would ignore the motion module. Inject, then compile.")


def _refuse_occupied(sites: list[Site]) -> None:
    if any(isinstance(hook, _SiteHook) for site in sites for hook in site.layer._forward_hooks.values()):
        raise IncompatibleModelError("This UNet carries a motion module already. Leave the other inject block first.")


class _Resident:
    """The transformers as the UNet needs them: on the device and in the dtype of what flows through each site.

    One site at a time, since activations may change their dtype from site to site under autocast.
    """

    def __init__(self, motion: MotionModule) -> None:
        self._originals = dict(motion.sites())
        self._in_training = any(weight.requires_grad for weight in motion.parameters())
        self._copies: dict[tuple[str, torch.device, torch.dtype], TemporalTransformer] = {}

    def transformer(self, site: str, x: Tensor) -> TemporalTransformer:
        original = self._originals[site]
        weight = original.proj_in.weight
        if self._in_training or (weight.device, weight.dtype) == (x.device, x.dtype):
            return original
        key = (site, x.device, x.dtype)
        if key not in self._copies:
            self._copies[key] = deepcopy(original).to(device=x.device, dtype=x.dtype)
        return self._copies[key]


class _SiteHook:
    """Forward hook: passes a layer's output on through the transformer of its site."""

    def __init__(self, resident: _Resident, site: str, frames: int) -> None:
        self._resident = resident
        self._site = site
        self._frames = frames

    def __call__(self, _layer: nn.Module, _inputs: object, output: Tensor | tuple[Tensor, ...]) -> object:
        x = output[0] if isinstance(output, tuple) else output
        if x.shape[0] % self._frames:
            raise ClipError(
                f"The UNet was called with {x.shape[0]} rows, which are not whole clips of {self._frames} frames."
            )
        x = self._resident.transformer(self._site, x)(x, self._frames)
        return (x, *output[1:]) if isinstance(output, tuple) else x
