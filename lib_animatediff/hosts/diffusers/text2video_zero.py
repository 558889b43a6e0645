"""Text2Video-Zero on a diffusers pipeline: where the frames begin, and the sampler that goes on from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import inject
from lib_animatediff.sampling.text2video_zero import Text2VideoZero, levels_of, motion_field, sigmas_of


@dataclass
class _FirstFrame:
    """Frame 0 on its way: at the step from which all frames are denoised together, and where it is shifted.

    Attributes:
        own, first: ``1 c h w`` at these steps, as the sampler keeps them.
        state: of frame 0's generator at the first of them.
    """

    own: Tensor
    first: Tensor
    state: Tensor


def render(
    pipeline: Any,
    method: Text2VideoZero,
    told: Mapping[str, Any],
    generators: list[torch.Generator],
    noise: Tensor,
    *,
    windows: ContextWindows | None,
    on_step: Callable[[], None],
) -> Any:
    """The pictures of a clip. A clip of one frame is the picture that the pipeline makes by itself.

    Args:
        pipeline: its scheduler is changed, so that it begins later: give it one that nobody needs afterwards.
        told: what the pipeline is called with, prompts of all frames included.
        generators: one for each frame; ``noise`` has been drawn from them.
        noise: ``f c h w``, unit noise of each frame.
        windows: how many frames go through the UNet at a time.
        on_step: called so often as there are steps.
    """
    sampler = pipeline.scheduler
    if len(noise) == 1:
        return pipeline(
            **told, latents=noise, generator=generators, callback_on_step_end=_each(on_step), output_type="pil"
        ).images
    sampler.set_timesteps(told["num_inference_steps"], device=pipeline.device)
    sigmas = sigmas_of(sampler.alphas_cumprod)[sampler.timesteps.long().cpu()].tolist()
    to_shift, to_join = (_first_at_most(level, sigmas) for level in levels_of(sampler.alphas_cumprod, method))
    frame = _first_frame(pipeline, told, generators[0], noise[:1], to_join, to_shift, on_step)
    generators[0].set_state(frame.state)
    # Samplers that begin with unit noise keep x, the others keep z.
    keeps_z = float(sampler.init_noise_sigma) != 1
    own, first = (
        latents.float() * (1 if keeps_z else math.hypot(1, sigmas[step]))
        for latents, step in ((frame.own, to_join), (frame.first, to_shift))
    )
    begun = motion_field(first, own, noise[None].float(), sigmas[to_shift], sigmas[to_join], method)
    _begin_at(sampler, to_join)
    # The pipeline multiplies with what turns unit noise into what the sampler keeps.
    latents = (begun / math.hypot(1, sigmas[to_join])).to(noise)
    with inject(pipeline.unet, method, frames=len(noise), windows=windows):
        return pipeline(
            **told, latents=latents, generator=generators, callback_on_step_end=_each(on_step), output_type="pil"
        ).images


def _first_at_most(level: float, sigmas: list[float]) -> int:
    """The first step that begins at a noise level or below it; the last, where none does."""
    return next((step for step, sigma in enumerate(sigmas) if sigma <= level), len(sigmas) - 1)


def _first_frame(
    pipeline: Any,
    told: Mapping[str, Any],
    generator: torch.Generator,
    noise: Tensor,
    to_join: int,
    to_shift: int,
    on_step: Callable[[], None],
) -> _FirstFrame:
    """Denoise frame 0 alone, as far as it is needed."""
    begun = noise * pipeline.scheduler.init_noise_sigma
    frame = _FirstFrame(begun, begun, generator.get_state())
    if to_shift == 0:
        return frame

    def after_step(_pipeline: Any, step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == to_join:
            frame.own, frame.state = kept["latents"].clone(), generator.get_state()
        if step + 1 == to_shift:
            frame.first = kept["latents"].clone()
            pipeline._interrupt = True  # as diffusers' guide on callbacks ends a run
        if step < to_join:  # those between are done again, with the other frames
            on_step()
        return kept

    pipeline(
        **_of_first(told), latents=noise, generator=[generator], callback_on_step_end=after_step, output_type="latent"
    )
    return frame


def _of_first(told: Mapping[str, Any]) -> dict[str, Any]:
    rows = {name: value[:1] if isinstance(value, Tensor) else value for name, value in told.items()}
    return {**rows, "num_images_per_prompt": 1}


def _begin_at(sampler: Any, step: int) -> None:
    """Let a sampler leave out its first steps, as if the rest were all it had: multistep ones begin a new history."""
    plan = sampler.set_timesteps

    def plan_the_rest(*args: Any, **kwargs: Any) -> None:
        plan(*args, **kwargs)
        sampler.timesteps = sampler.timesteps[step:]
        if hasattr(sampler, "sigmas"):
            sampler.sigmas = sampler.sigmas[step:]

    sampler.set_timesteps = plan_the_rest


def _each(on_step: Callable[[], None]) -> Callable[..., dict[str, Any]]:
    def after_step(_pipeline: Any, _step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return kept

    return after_step
