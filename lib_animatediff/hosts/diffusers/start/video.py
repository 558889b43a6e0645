"""Video to video on a diffusers pipeline: latents of the source's frames, with noise up to the strength's timestep."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from einops import rearrange
from torch import Tensor

from lib_animatediff.hosts.diffusers.decode import frames_at_once
from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.kept import latent_masks
from lib_animatediff.request.start.ramp import ImageRamp
from lib_animatediff.request.start.second_pass import SecondPass
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.sampling.hold import strengths_of
from lib_animatediff.video.mask import examine_mask
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.source import SourceFacts, examine, over_white, source_frames

if TYPE_CHECKING:
    from PIL.Image import Image

_HALF = 127.5  # of the levels of 8 bits, for values from -1 to 1


@dataclass(frozen=True)
class StartLatents:
    """What a clip starts from.

    Attributes:
        video: the source and the denoising strength; or those of a second pass, or of a ramp of images.
        latents: of its frames, ``f c h w``, without noise.
        masks: share of the strength in each part, ``f 1 h w``; None: all.
    """

    video: VideoStart | SecondPass | ImageRamp
    latents: Tensor
    masks: Tensor | None = None

    @property
    def strengths(self) -> Tensor:
        """The strength of each part, ``f 1 h w`` or ``f 1 1 1``, in main memory."""
        return strengths_of(self.video.strengths(len(self.latents)), self.masks)

    @property
    def has_parts(self) -> bool:
        """Whether some parts may begin later than others, or not at all."""
        return self.masks is not None or isinstance(self.video, VideoStart)

    def noised(self, sampler: Any, noise: Tensor, steps: int) -> Tensor:
        """The latents with noise, at the first step that is not skipped, for the pipeline's ``latents``.

        Args:
            sampler: a diffusers scheduler inside `begin_at`; its timesteps are set.
            noise: unit noise of each frame.
            steps: of the whole schedule.
        """
        sampler.set_timesteps(steps, device=self.latents.device)
        noised = sampler.add_noise(self.latents, noise, sampler.timesteps[:1])
        # The pipeline multiplies by the factor from unit noise to the sampler's scaling.
        return noised / sampler.init_noise_sigma  # type: ignore[no-any-return]


def check_video(plan: ClipPlan) -> SourceFacts | None:
    """Read the plan's source once before anything is loaded; None if there is none.

    Raises:
        AnimateDiffError: it is missing or damaged, or has too few frames.
    """
    if plan.video is None:
        return None
    facts = examine(plan.video.source, frames=len(plan.rendered))
    if plan.video.mask is not None:
        examine_mask(plan.video.mask, plan.video.source, facts)
    return facts


def start_latents(pipeline: Any, plan: ClipPlan, like: Tensor) -> StartLatents | None:
    """The latents that the rendered frames start from; None for a clip from the prompt alone.

    Args:
        like: an empty tensor with the shape, dtype and device of the latents, ``f c h w``.

    Raises:
        ClipError: the source cannot be read.
    """
    if plan.video is None or not plan.video.is_used:
        return None
    size = like.shape[3] * PIXELS_PER_LATENT, like.shape[2] * PIXELS_PER_LATENT
    images = source_frames(plan.video.source, size, len(plan.rendered))
    masks = latent_masks(plan.video, size, len(plan.rendered))
    return StartLatents(plan.video, encode_frames(pipeline, images, like), masks)


def encode_frames(pipeline: Any, images: Iterable[Image], like: Tensor) -> Tensor:
    """The latents of images, some at a time. They are means of the VAE's distribution, so that nothing is random."""
    latents = torch.empty_like(like)
    place = 0
    for some in _slices(images, frames_at_once(pipeline, like)):
        pixels = torch.stack([pixels_of(image) for image in some])
        latents[place : place + len(some)] = encode_pixels(pipeline, pixels, like)
        place += len(some)
    return latents


@torch.no_grad()
def encode_pixels(pipeline: Any, pixels: Tensor, like: Tensor) -> Tensor:
    """The latents of images ``n 3 h w`` from -1 to 1, all at once, with the dtype and on the device of ``like``."""
    vae = pipeline.vae
    encoded = vae.encode(pixels.to(like.device, vae.dtype)).latent_dist.mode() * vae.config.scaling_factor
    return encoded.to(like.dtype)  # type: ignore[no-any-return]


def _slices(images: Iterable[Image], length: int) -> Iterator[list[Image]]:
    coming = iter(images)
    while some := list(islice(coming, length)):
        yield some


def pixels_of(image: Image) -> Tensor:
    """An image as ``3 h w`` from -1 to 1, transparent parts over white."""
    return rearrange(levels_of(over_white(image)).float() / _HALF - 1, "h w c -> c h w")
