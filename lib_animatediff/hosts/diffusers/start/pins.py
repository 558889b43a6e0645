"""Pinned frames on a diffusers pipeline, see `sampling.pinned_frames`: latents of images, and their inverted noise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.hosts.diffusers.pipeline import PIXELS_PER_LATENT, SAMPLER, new_sampler, timesteps_of
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings.derived import is_loop
from lib_animatediff.sampling.hold import NoiseLevels
from lib_animatediff.sampling.inversion import invert
from lib_animatediff.sampling.pinned_frames import V_PREDICTION, HeldFrames, PinnedLatents, hold
from lib_animatediff.video.source import examine

from .video import encode_frames


@contextmanager
def held(pinned: PinnedLatents, unet: nn.Module, sampler: Any) -> Iterator[HeldFrames]:
    """Hold the pinned frames in all calls of the UNet inside the block, see `hold`.

    Args:
        sampler: a diffusers scheduler with the noise levels of the sampling.
    """
    hooks = HeldFrames()
    is_velocity = sampler.config.prediction_type == V_PREDICTION
    hooks.begin(pinned, NoiseLevels(sampler.alphas_cumprod), predicts_velocity=is_velocity)
    with hold(unet, hooks):
        yield hooks


def check_images(plan: ClipPlan) -> None:
    """Read the images of the plan's pinned frames and ramp once, before anything is loaded.

    Raises:
        AnimateDiffError: one of them is missing or damaged.
    """
    if plan.pins is not None:
        for source, frames in plan.pins.series():
            examine(source, frames=len(frames))
    for source in plan.ramp.sources() if plan.ramp else ():
        examine(source, frames=1)


def pinned_latents(
    pipeline: Any, plan: ClipPlan, kwargs: Mapping[str, Any], like: Tensor, own_sampler: Any
) -> PinnedLatents | None:
    """The pinned frames among those that are rendered; None if there are none.

    Call it before a motion module is injected, since the checkpoint alone inverts the images.

    Args:
        kwargs: the pipeline's keyword arguments for prompts.
        like: an empty tensor with the shape, dtype and device of the latents, ``f c h w``.
        own_sampler: the checkpoint's scheduler.

    Raises:
        ClipError: an image cannot be read.
    """
    pins = None if plan.pins is None else plan.pins.within(len(like))
    if pins is None:
        return None
    size = like.shape[3] * PIXELS_PER_LATENT, like.shape[2] * PIXELS_PER_LATENT
    latents = encode_frames(pipeline, pins.images(size), like[: len(pins.pins)])
    inverted, places = None, pins.frames
    starts_from_noise = plan.video is None and plan.ramp is None
    if pins.inversion > 0 and starts_from_noise and len(pins.pins) < len(like):
        which = pins.lenders(len(like))
        places = [pins.frames[place] for place in which]
        conditions = _conditions(pipeline, kwargs, places)
        # The checkpoint was trained with its own noise levels, and the motion module with others.
        sampler = new_sampler(SAMPLER, own_sampler, None)
        inverted = _inverted(pipeline, latents[which], conditions, sampler, plan.sampling.steps)
    return PinnedLatents(
        pins,
        latents,
        len(like),
        inverted,
        places=places,
        is_loop=is_loop(plan.settings),
        leads_on=pins.leads_on and starts_from_noise,
    )


@torch.no_grad()
def _inverted(pipeline: Any, latents: Tensor, conditions: Tensor, sampler: Any, steps: int) -> Tensor:
    def predict(noised: Tensor, timestep: float) -> Tensor:
        return pipeline.unet(noised, timestep, encoder_hidden_states=conditions, return_dict=False)[0]  # type: ignore[no-any-return]

    is_velocity = sampler.config.prediction_type == V_PREDICTION
    return invert(latents, predict, timesteps_of(sampler, steps), sampler.alphas_cumprod, predicts_velocity=is_velocity)


def _conditions(pipeline: Any, kwargs: Mapping[str, Any], frames: list[int]) -> Tensor:
    """The conditions of frames' prompts: ``p n c``."""
    given = kwargs.get("prompt_embeds")
    if given is None:
        given, _ = pipeline.encode_prompt(kwargs["prompt"], pipeline.device, 1, False)
    rows: Tensor = given.expand(len(frames), -1, -1) if len(given) == 1 else given[frames]
    return rows
