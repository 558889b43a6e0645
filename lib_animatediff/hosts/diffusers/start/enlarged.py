"""The start of a second pass on a diffusers pipeline: latents of the finished clip, enlarged."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lib_animatediff.hosts.diffusers.decode import Decode, decode_frames
from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.kept import latent_masks
from lib_animatediff.sampling.hold import strengths_of

from .video import StartLatents, encode_frames

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor


def plan_of_second_pass(plan: ClipPlan) -> ClipPlan:
    """The plan without what only a first pass has: FreeInit's rounds, inverted noise beside pins, led frames."""
    pins = None if plan.pins is None else replace(plan.pins, inversion=0.0, leads_on=False)
    return replace(plan, freeinit=None, pins=pins)


def enlarged_latents(
    pipeline: Any, plan: ClipPlan, latents: Tensor, like: Tensor, decoder: Decode | None = None
) -> StartLatents:
    """The latents that the second pass starts from. Frames are decoded, enlarged and encoded some at a time.

    Pixels are enlarged and not latents, since an enlarged latent decodes to a blurred image, which needs more noise.

    Args:
        latents: of the first pass, ``f c h w``.
        like: an empty tensor with the shape, dtype and device of the latents of the second pass.
        decoder: from `load_decoder`; None: the VAE of the pipeline.
    """
    assert plan.second_pass is not None
    size = like.shape[3] * PIXELS_PER_LATENT, like.shape[2] * PIXELS_PER_LATENT
    frames = decode_frames(pipeline, latents, decoder)
    start = encode_frames(pipeline, _enlarged(iter(frames), size), like)
    return StartLatents(plan.second_pass, start, _free_parts(plan, size, len(latents)))


def _free_parts(plan: ClipPlan, size: tuple[int, int], frames: int) -> Tensor | None:
    """What the second pass may change, as `StartLatents.masks`: not what the first one has kept of a video."""
    if plan.video is None:
        return None
    masks, is_free = latent_masks(plan.video, size, frames), strengths_of(plan.video.strengths(frames)) > 0
    if masks is None:
        return None if bool(is_free.all()) else is_free.float()
    return masks * is_free


def _enlarged(frames: Iterator[Image], size: tuple[int, int]) -> Iterator[Image]:
    from PIL.Image import Resampling

    return (frame.resize(size, Resampling.LANCZOS) for frame in frames)
