"""Runs of the sampler on one clip, whose components are in the UNet of a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lib_animatediff.engine.inject import Injection
from lib_animatediff.hosts.diffusers.guidance import GuidanceSwitch
from lib_animatediff.hosts.diffusers.methods import SamplingJob
from lib_animatediff.hosts.diffusers.pipeline import timesteps_of
from lib_animatediff.sampling.pinned_frames import HeldFrames

from .held import HeldParts
from .inverted import InvertedVideo
from .late import begin_at


class ClipRuns:
    """The runs of one clip, of which FreeInit has several.

    Args:
        job: the inputs of the sampling.
        kwargs: the pipeline's keyword arguments for prompts, size and CFG.
        injection: of the components.
        parts: parts of a source video that are held; None: none are.
        hooks: hold pinned frames; None: there are none.
    """

    def __init__(
        self,
        job: SamplingJob,
        kwargs: Mapping[str, Any],
        injection: Injection,
        parts: HeldParts | None,
        hooks: HeldFrames | None,
    ) -> None:
        self._job = job
        self._kwargs = kwargs
        self._injection = injection
        self._parts = parts
        self._hooks = hooks
        self._inverted: InvertedVideo | None = None
        if job.start is not None:
            self._inverted = InvertedVideo(job.pipeline, job.start, kwargs, self._before_inverting)

    def run(self, noise: Any, steps: int, number: int) -> Any:
        """The latents that the sampler makes of unit noise ``f c h w``; None: the pipeline draws it.

        Args:
            steps: of the whole schedule.
            number: of the run.
        """
        parts, pinned = self._parts, self._job.pinned
        if parts is not None:
            parts.begin_run(steps)
        latents = self._started(noise if pinned is None else pinned.in_noise(noise), steps, number)
        latents = latents if parts is None else parts.in_result(latents)
        return latents if pinned is None else pinned.in_result(latents)

    def _started(self, noise: Any, steps: int, number: int) -> Any:
        """Sample from the clip's start: noise, or latents that noise is added to."""
        start, scheduler = self._job.start, self._job.pipeline.scheduler
        if start is None or self._inverted is None:
            return self._sampled(noise, steps, number)
        done = start.video.skipped(steps)
        if done == 0 and not start.video.begins_noised:
            return self._sampled(noise, steps, number)
        if done == steps:
            return start.latents
        if self._job.resumable.found is None:  # otherwise the sampling goes on from the latents of a state
            noise = self._inverted.in_noise(noise, steps)
        with begin_at(scheduler, done):
            return self._sampled(start.noised(scheduler, noise, steps), steps, number, done)

    def _sampled(self, latents: Any, steps: int, number: int, done: int = 0) -> Any:
        job, injection = self._job, self._injection
        pipeline, plan, resumable = job.pipeline, job.plan, job.resumable
        timesteps = timesteps_of(pipeline.scheduler, steps)[done:]
        count = steps - done
        state = resumable.begin_run(number)
        begun = 0 if state is None else state.step
        injection.begin_run(count)
        self._reach(begun / count, timesteps[min(begun, count - 1)], done + begun)
        if state is not None:
            injection.step_numbers = state.numbers
            if begun == count:
                return state.latents.to(job.like)
        guidance = GuidanceSwitch(
            pipeline, plan.guidance, self._kwargs, count, done=begun, on_switch=injection.drop_features
        )

        def after_step(_pipeline: Any, step: int, _timestep: int, kept: dict[str, Any]) -> dict[str, Any]:
            next_step = begun + step + 1
            self._reach(next_step / count, timesteps[min(next_step, count - 1)], done + next_step)
            can_resume = plan.reuse is None or next_step == count or plan.reuse.is_full(next_step, count)
            resumable.after_step(next_step, kept["latents"], injection.step_numbers, can_resume=can_resume)
            job.on_step()
            return guidance.after_step(pipeline, step, kept)

        with resumable.from_state(state):
            return pipeline(
                **guidance.kwargs,
                latents=latents,
                generator=job.generators,
                num_inference_steps=steps,
                callback_on_step_end=after_step,
                output_type="latent",
            ).images

    def _reach(self, progress: float, timestep: float, step: int | None) -> None:
        """Set the place of the next call in the sampling.

        Args:
            step: counted in the whole schedule; None: no part is held.
        """
        injection, hooks = self._injection, self._hooks
        former = injection.progress
        acting = [each.acts_at for each in (*self._job.controls, hooks) if each is not None]
        if any(acts_at(progress) != acts_at(former or 0.0) for acts_at in acting):
            injection.drop_features()  # what the UNet sees beside the prompt changes
        injection.progress, injection.timestep = progress, timestep
        if hooks is not None:
            hooks.progress = progress
        if self._parts is not None:
            self._parts.step = step

    def _before_inverting(self, call: tuple[int, int, float] | None) -> None:
        """Let a call that inverts have the windows and amounts of the step that it inverts."""
        self._injection.drop_features()
        if call is None:
            self._injection.step = None
            return
        step, count, timestep = call
        self._injection.step = step
        self._reach(step / count, timestep, None)
