"""The images of a control unit, read from its source or its key images, and their latents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lib_animatediff.engine.components.control import FrameHints
from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT
from lib_animatediff.hosts.diffusers.start.video import encode_frames
from lib_animatediff.request.control.unit import ControlUnit, count_of, image_order
from lib_animatediff.video.fitting import CROP, Size
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.source import over_white, source_frames

if TYPE_CHECKING:
    from PIL.Image import Image


def count_images(unit: ControlUnit, frames: int) -> int:
    """How many images the source of a unit has, counted as far as they matter; 0 for key images."""
    return 0 if unit.source is None else count_of(unit.source, unit.fill, frames)


def mask_order(unit: ControlUnit, frames: int) -> list[int]:
    """The number of the mask of each frame; empty without masks.

    Raises:
        ClipError: there are too few masks.
    """
    if unit.mask is None:
        return []
    return image_order(unit.mask.name, unit.fill, frames, count_of(unit.mask, unit.fill, frames))


def unit_masks(unit: ControlUnit, order: Sequence[int], size: Size) -> FrameHints | None:
    """The masks of frames, white where the unit acts; None: everywhere."""
    if unit.mask is None:
        return None
    used = sorted(set(order))
    images = enumerate(source_frames(unit.mask, size, used[-1] + 1))
    chosen = [levels_of(over_white(image).convert("L")).permute(2, 0, 1) for number, image in images if number in used]
    return FrameHints(torch.stack(chosen), [used.index(number) for number in order])


def latents_of_images(pipeline: Any, images: Sequence[Image], size: Size) -> Tensor:
    """``n c h w``: the latents of images of this width and height, on the device and in the dtype of the UNet.

    They are the means of the VAE's distribution, from which the official codes of SparseCtrl, PIA and AnimateLCM-I2V
    draw, so that nothing is random.
    """
    unet, channels = pipeline.unet, pipeline.vae.config.latent_channels
    sides = (pixels // PIXELS_PER_LATENT for pixels in reversed(size))
    return encode_frames(
        pipeline, images, torch.empty(len(images), channels, *sides, dtype=unet.dtype, device=unet.device)
    )


def unit_images(unit: ControlUnit, numbers: Sequence[int], size: Size) -> Iterator[Image]:
    """The images with these numbers, which rise, in a width and height."""
    if unit.source is None:
        for number in numbers:
            yield from source_frames(unit.keys[number].source(CROP), size, 1)
        return
    for number, image in enumerate(source_frames(unit.source, size, numbers[-1] + 1)):
        if number in numbers:
            yield image
