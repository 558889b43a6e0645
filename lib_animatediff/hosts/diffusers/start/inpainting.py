"""Inpainting checkpoints on a diffusers pipeline: five further channels of the UNet, for the mask and what it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.call import count_clips
from lib_animatediff.hosts.diffusers.pipeline import INPAINTING_CHANNELS, PIXELS_PER_LATENT
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.kept import shares_of
from lib_animatediff.sampling.hold import shrunk
from lib_animatediff.video.mask import mask_frames
from lib_animatediff.video.source import source_frames

from .video import encode_pixels, pixels_of


class InpaintingCondition:
    """What an inpainting checkpoint sees beside the latents.

    Args:
        values: ``f 5 h w``, the mask and the latents of what it keeps; or ``1 5 h w`` for all frames.
    """

    def __init__(self, values: Tensor) -> None:
        self._values = values

    @contextmanager
    def attached(self, unet: nn.Module) -> Iterator[None]:
        """Add the channels in all calls of the UNet inside the block.

        Enter it after hooks that replace latents, and before anything that replaces the UNet's forward.
        """
        handle = unet.register_forward_pre_hook(self._before, with_kwargs=True)
        try:
            yield
        finally:
            handle.remove()

    def _before(self, _unet: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any]:
        latents, *others = args  # diffusers' pipeline passes them by position
        values = self._values
        if len(values) == 1:
            rows = values.expand(len(latents), -1, -1, -1)
        else:
            rows = values.repeat(count_clips(len(latents), len(values)), 1, 1, 1)
        return (torch.cat([latents, rows.to(latents)], dim=1), *others), kwargs


def inpainting_condition(pipeline: Any, plan: ClipPlan, like: Tensor) -> InpaintingCondition | None:
    """The condition of the rendered frames; None for other checkpoints.

    Without a mask everything may change, as in the WebUI.

    Args:
        like: an empty tensor with the shape, dtype and device of the latents, ``f c h w``.

    Raises:
        ClipError: the video or its mask cannot be read.
    """
    if pipeline.unet.config.in_channels != INPAINTING_CHANNELS:
        return None
    video, (height, width) = plan.video, (PIXELS_PER_LATENT * side for side in like.shape[2:])
    if video is None or video.mask is None:
        grey = encode_pixels(pipeline, torch.zeros(1, 3, height, width), like)
        return InpaintingCondition(torch.cat([torch.ones_like(grey[:, :1]), grey], dim=1))
    size, frames = (width, height), len(plan.rendered)
    images = source_frames(video.source, size, frames)  # over white when they become pixels
    rows = []
    for image, mask in zip(images, mask_frames(video.mask, video.source, size, frames), strict=True):
        changes = (shares_of(mask) > 0).float()[None]
        kept = encode_pixels(pipeline, (pixels_of(image) * (1 - changes))[None], like)
        rows.append(torch.cat([shrunk(changes)[None].to(kept), kept], dim=1))
    return InpaintingCondition(torch.cat(rows))


def attached(condition: InpaintingCondition | None, unet: nn.Module) -> Any:
    """`InpaintingCondition.attached`, or a block without effect."""
    return nullcontext() if condition is None else condition.attached(unet)
