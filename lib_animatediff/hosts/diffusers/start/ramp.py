"""Images that fade in the initial latents on a diffusers pipeline, see `sampling.image_start`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.hosts.diffusers.noise import unit_noise
from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.image_start import image_start
from lib_animatediff.video.source import source_frames
from motion_module import ClipError

from .video import StartLatents, encode_frames


def ramp_latents(
    pipeline: Any, plan: ClipPlan, generators: Sequence[torch.Generator], like: Tensor
) -> StartLatents | None:
    """The latents of a plan with a ramp; None for one without.

    As in sd-webui-animatediff, the images fade into the first draw of each frame's generator, and the sampler then adds
    the second one.

    Args:
        generators: of the rendered frames.
        like: an empty tensor with the shape, dtype and device of the latents, ``f c h w``.

    Raises:
        ClipError: there is no init image, or an image cannot be read.
    """
    ramp = plan.ramp
    if ramp is None:
        return None
    if ramp.image is None:
        raise ClipError("A ramp needs the file of an init image here. Give ImageRamp an image.", code="AD-D31")
    size = like.shape[3] * PIXELS_PER_LATENT, like.shape[2] * PIXELS_PER_LATENT
    sources = ramp.sources()
    images = (image for source in sources for image in source_frames(source, size, 1))
    shapes = like.new_empty(len(sources), *like.shape[1:])
    first, *others = encode_frames(pipeline, images, shapes)
    mixed = image_start(unit_noise(plan, generators, like), first, ramp.first, others[0] if others else None, ramp.last)
    return StartLatents(ramp, mixed)
