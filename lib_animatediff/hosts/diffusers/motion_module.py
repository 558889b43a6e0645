"""Motion modules on a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from lib_animatediff.engine.components.control import ControlComponent
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.engine.inject import Injection, check_frames, inject
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.request.methods import ModuleMethod
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.pinned_frames import HeldFrames
from motion_module import ClipError, MotionModule, load_motion_module

from .guidance import GuidanceSwitch
from .methods import Adapters, SamplingJob, load_method, not_a_motion_module
from .networks import with_motion_loras
from .noise import first_noise, sample_runs, unit_noise
from .pipeline import timesteps_of
from .prompts import NumberedConditions, conditions_by_number
from .start.held import HeldParts
from .start.inpainting import attached
from .start.late import begin_at
from .start.pins import held


class LoadedModules:
    """Motion modules, the first of which sets the sampler's schedule.

    Args:
        modules: motion modules, or components with their own scale.
        adapters: domain adapters with their strengths.
        reports: one line about each motion LoRA.
    """

    def __init__(
        self,
        modules: Sequence[MotionModule | MotionComponent],
        adapters: Adapters = (),
        reports: Sequence[str] = (),
    ) -> None:
        if not modules:
            raise ClipError(
                "The list of motion modules is empty. Pass at least one, as load_motion_module returns it.",
                code="AD-D05",
            )
        self.modules = modules
        self.name = modules[0].name
        self.schedule = modules[0].schedule
        self.adapters = adapters
        self.reports = reports

    def check(self, plan: ClipPlan) -> None:
        """Refuse more frames per call than a module was trained on."""
        for module in self.modules:
            check_frames(module, len(plan.rendered), plan.windows)

    def sample(self, job: SamplingJob) -> Any:
        """The latents of the rendered frames, ``f c h w``."""
        pipeline, plan = job.pipeline, job.plan
        scale = getattr(plan.method, "scale", None)
        components = [
            MotionComponent(module, scale)
            if isinstance(module, MotionModule)
            # The scale of a preview is that of all: no motion.
            else (module if plan.makes_clip else module.with_scale(scale))
            for module in self.modules
        ]
        with ExitStack() as stack:
            pinned = job.pinned
            parts = None if job.start is None or not job.start.has_parts else HeldParts(job.start, pipeline.scheduler)
            if parts is not None:  # before the pinned frames, which have the last word
                stack.enter_context(parts.attached(pipeline.unet))
            hooks = None if pinned is None else stack.enter_context(held(pinned, pipeline.unet, pipeline.scheduler))
            kwargs, numbered = dict(job.kwargs), list[NumberedConditions]()
            if plan.windows is not None:
                kwargs, numbered = conditions_by_number(pipeline, kwargs, len(plan.rendered))
            stack.enter_context(attached(job.inpainting, pipeline.unet))
            injection = stack.enter_context(
                inject(
                    pipeline.unet,
                    *components,
                    *job.controls,
                    *numbered,
                    frames=len(plan.rendered),
                    windows=plan.windows,
                    reuse=plan.reuse,
                )
            )

            reach = _Place(injection, job.controls, hooks, parts).reach

            def run(noise: Any, steps: int, number: int) -> Any:
                if parts is not None:
                    parts.begin_run(steps)
                latents = start(noise if pinned is None else pinned.in_noise(noise), steps, number)
                latents = latents if parts is None else parts.in_result(latents)
                return latents if pinned is None else pinned.in_result(latents)

            def start(noise: Any, steps: int, number: int) -> Any:
                done = 0 if job.start is None else job.start.video.skipped(steps)
                if job.start is None or done == 0:
                    return sample(noise, steps, number)
                if done == steps:
                    return job.start.latents
                with begin_at(pipeline.scheduler, done):
                    return sample(job.start.noised(pipeline.scheduler, noise, steps), steps, number, done)

            def sample(latents: Any, steps: int, number: int, done: int = 0) -> Any:
                timesteps = timesteps_of(pipeline.scheduler, steps)[done:]
                count = steps - done
                state = job.resumable.begin_run(number)
                begun = 0 if state is None else state.step
                injection.begin_run(count)
                reach(begun / count, timesteps[min(begun, count - 1)], done + begun)
                if state is not None:
                    injection.step_numbers = state.numbers
                    if begun == count:
                        return state.latents.to(job.like)
                guidance = GuidanceSwitch(
                    pipeline, plan.guidance, kwargs, count, done=begun, on_switch=injection.drop_features
                )

                def after_step(_pipeline: Any, step: int, _timestep: int, kept: dict[str, Any]) -> dict[str, Any]:
                    next_step = begun + step + 1
                    reach(next_step / count, timesteps[min(next_step, count - 1)], done + next_step)
                    can_resume = plan.reuse is None or next_step == count or plan.reuse.is_full(next_step, count)
                    job.resumable.after_step(next_step, kept["latents"], injection.step_numbers, can_resume=can_resume)
                    job.on_step()
                    return guidance.after_step(pipeline, step, kept)

                with job.resumable.from_state(state):
                    return pipeline(
                        **guidance.kwargs,
                        latents=latents,
                        generator=job.generators,
                        num_inference_steps=steps,
                        callback_on_step_end=after_step,
                        output_type="latent",
                    ).images

            is_drawn_by_pipeline = job.start is None and pinned is None and job.inpainting is None
            draw = first_noise if is_drawn_by_pipeline else unit_noise
            noise = draw(plan, job.generators, job.like)
            return sample_runs(plan, run, noise, float(pipeline.scheduler.alphas_cumprod[-1]), job.resumable.first_run)


class _Place:
    """The place of the sampling, for what acts at some of the steps only.

    Args:
        controls: control networks.
        hooks: of pinned frames; None: there are none.
        parts: of a video that are held; None: there are none.
    """

    def __init__(
        self,
        injection: Injection,
        controls: Sequence[ControlComponent],
        hooks: HeldFrames | None,
        parts: HeldParts | None,
    ) -> None:
        self._injection, self._hooks, self._parts = injection, hooks, parts
        self._acting = [each.acts_at for each in (*controls, hooks) if each is not None]

    def reach(self, progress: float, timestep: float, step: int) -> None:
        """Set the completed share, the timestep of the calls that follow, and the step in the whole schedule."""
        former = self._injection.progress
        if any(acts_at(progress) != acts_at(former or 0.0) for acts_at in self._acting):
            self._injection.drop_features()  # what the UNet sees beside the prompt changes
        self._injection.progress, self._injection.timestep = progress, timestep
        if self._hooks is not None:
            self._hooks.progress = progress
        if self._parts is not None:
            self._parts.step = step


@load_method.register
def _load_given_module(given: MotionModule, plan: ClipPlan) -> LoadedModules:
    return _loaded([given], plan)


@load_method.register
def _load_given_component(given: MotionComponent, plan: ClipPlan) -> LoadedModules:
    return _loaded([given], plan)


@load_method.register(list)
@load_method.register(tuple)
def _load_given_modules(given: Sequence[MotionModule | MotionComponent], plan: ClipPlan) -> LoadedModules:
    for one in given:
        if not isinstance(one, (MotionModule, MotionComponent)):
            raise not_a_motion_module(one)
    return _loaded(given, plan)


@load_method.register
def _load_files(given: ModuleMethod, plan: ClipPlan) -> LoadedModules:
    modules: list[MotionModule | MotionComponent] = []
    for file in given.modules:
        module = load_motion_module(file.path, kind=file.kind)
        own_scale = MotionScale(scale=(file.scale,), effect=(file.effect,))
        modules.append(MotionComponent(module, own_scale) if modules else module)
    return _loaded(modules, plan)


def _loaded(modules: Sequence[MotionModule | MotionComponent], plan: ClipPlan) -> LoadedModules:
    """Merge the plan's motion LoRAs into the first module."""
    loras = getattr(plan.method, "loras", ())
    if not loras or not modules:
        return LoadedModules(modules)
    first, *others = modules
    if not isinstance(first, MotionModule):
        raise ClipError("motion_loras need a MotionModule, not a component. Pass the module itself.", code="AD-D06")
    merged = with_motion_loras(first, loras)
    return LoadedModules([merged.motion, *others], merged.adapters, merged.reports)
