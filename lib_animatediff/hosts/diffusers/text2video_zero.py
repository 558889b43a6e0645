"""Text2Video-Zero on a diffusers pipeline: the initial latents of the frames, and sampling from there."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.inject import check_frames, inject
from lib_animatediff.request.methods import Text2VideoZeroMethod
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.text2video_zero import Text2VideoZero, levels_of, motion_field, sigmas_of

from .guidance import GuidanceSwitch
from .methods import Adapters, SamplingJob, load_method
from .noise import unit_noise
from .start.inpainting import attached
from .start.late import begin_at


@dataclass
class _FirstFrame:
    """Latents of frame 0 at the step from which all frames are denoised together, and at the step of the shift.

    Attributes:
        own, first: ``1 c h w`` at these steps, in the sampler's scaling.
        state: state of frame 0's generator at the first of these steps.
    """

    own: Tensor
    first: Tensor
    state: Tensor


class LoadedText2VideoZero:
    """Text2Video-Zero, which samples on the checkpoint's own schedule."""

    schedule = None
    adapters: Adapters = ()
    reports: Sequence[str] = ()

    def __init__(self, method: Text2VideoZero) -> None:
        self.name = method.name
        self._method = method

    def check(self, plan: ClipPlan) -> None:
        """Refuse a clip without frames; any number of frames is possible."""
        check_frames(self._method, len(plan.rendered))

    def sample(self, job: SamplingJob) -> Any:
        """The latents of the rendered frames, ``f c h w``. A clip of one frame is the pipeline's ordinary image."""
        with attached(job.inpainting, job.pipeline.unet):
            return self._sampled(job)

    def _sampled(self, job: SamplingJob) -> Any:
        pipeline, kwargs = job.pipeline, {**job.kwargs, "num_inference_steps": job.plan.sampling.steps}
        noise, method, sampler = unit_noise(job.plan, job.generators, job.like), self._method, job.pipeline.scheduler
        if len(noise) == 1:
            return self._finished(job, kwargs, noise)
        sampler.set_timesteps(kwargs["num_inference_steps"], device=pipeline.device)
        sigmas = sigmas_of(sampler.alphas_cumprod)[sampler.timesteps.long().cpu()].tolist()
        to_shift, to_join = (_first_at_most(level, sigmas) for level in levels_of(sampler.alphas_cumprod, method))
        if job.resumable.found is not None:  # with all frames: frame 0 alone is done again from its beginning
            return self._together(job, kwargs, noise, to_join)
        guidance = GuidanceSwitch(pipeline, job.plan.guidance, _of_first(kwargs), kwargs["num_inference_steps"])
        frame = _first_frame(pipeline, guidance, job.generators[0], noise[:1], to_join, to_shift, job.on_step)
        job.generators[0].set_state(frame.state)
        # Samplers that begin with unit noise store x, the others store z.
        keeps_z = float(sampler.init_noise_sigma) != 1
        own, first = (
            latents.float() * (1 if keeps_z else math.hypot(1, sigmas[step]))
            for latents, step in ((frame.own, to_join), (frame.first, to_shift))
        )
        begun = motion_field(first, own, noise[None].float(), sigmas[to_shift], sigmas[to_join], method)
        # The pipeline multiplies by the factor from unit noise to the sampler's scaling.
        latents = (begun / math.hypot(1, sigmas[to_join])).to(noise)
        job.resumable.sampled += to_join
        return self._together(job, kwargs, latents, to_join)

    def _together(self, job: SamplingJob, kwargs: Mapping[str, Any], latents: Tensor, to_join: int) -> Any:
        """The sampled latents of all frames, from the step on at which they are denoised together."""
        with (
            begin_at(job.pipeline.scheduler, to_join),
            inject(job.pipeline.unet, self._method, frames=len(latents), windows=job.plan.windows),
        ):
            return self._finished(job, kwargs, latents, done=to_join)

    @staticmethod
    def _finished(job: SamplingJob, kwargs: Mapping[str, Any], latents: Tensor, done: int = 0) -> Any:
        """The sampled latents from latents on, after so many steps."""
        pipeline, steps = job.pipeline, kwargs["num_inference_steps"]
        state = job.resumable.begin_run()
        begun = 0 if state is None else state.step
        if state is not None and done + begun == steps:
            return state.latents.to(latents)
        guidance = GuidanceSwitch(pipeline, job.plan.guidance, kwargs, steps, done=done + begun)

        def after_step(_pipeline: Any, step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
            job.resumable.after_step(begun + step + 1, kept["latents"])
            job.on_step()
            return guidance.after_step(pipeline, step, kept)

        with job.resumable.from_state(state):
            return pipeline(
                **guidance.kwargs,
                latents=latents,
                generator=job.generators,
                callback_on_step_end=after_step,
                output_type="latent",
            ).images


@load_method.register
def _(given: Text2VideoZero, _plan: ClipPlan) -> LoadedText2VideoZero:
    return LoadedText2VideoZero(given)


@load_method.register
def _(given: Text2VideoZeroMethod, _plan: ClipPlan) -> LoadedText2VideoZero:
    return LoadedText2VideoZero(given.text2video_zero)


def _first_at_most(level: float, sigmas: list[float]) -> int:
    """The first step that begins at a noise level or below it; otherwise the last step."""
    return next((step for step, sigma in enumerate(sigmas) if sigma <= level), len(sigmas) - 1)


def _first_frame(
    pipeline: Any,
    guidance: GuidanceSwitch,
    generator: torch.Generator,
    noise: Tensor,
    to_join: int,
    to_shift: int,
    on_step: Callable[[], None],
) -> _FirstFrame:
    """Denoise frame 0 alone, as far as needed."""
    begun = noise * pipeline.scheduler.init_noise_sigma
    frame = _FirstFrame(begun, begun, generator.get_state())
    if to_shift == 0:
        return frame

    def after_step(_pipeline: Any, step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
        if step + 1 == to_join:
            frame.own, frame.state = kept["latents"].clone(), generator.get_state()
        if step + 1 == to_shift:
            frame.first = kept["latents"].clone()
            pipeline._interrupt = True  # as in diffusers' guide on callbacks
        if step < to_join:  # the steps after it are computed again with the other frames
            on_step()
        return guidance.after_step(pipeline, step, kept)

    pipeline(
        **guidance.kwargs, latents=noise, generator=[generator], callback_on_step_end=after_step, output_type="latent"
    )
    return frame


def _of_first(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    rows = {name: value[:1] if isinstance(value, Tensor) else value for name, value in kwargs.items()}
    return {**rows, "num_images_per_prompt": 1}
