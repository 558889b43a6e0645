"""Motion modules on a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.engine.inject import Injection, check_frames, inject
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.engine.windowed_forward import Evaluate
from lib_animatediff.request.methods import ModuleMethod
from lib_animatediff.request.plan import ClipPlan
from motion_module import ClipError, MotionModule, load_motion_module

from .control.paired import check_paired
from .methods import Adapters, Controls, SamplingJob, load_method, not_a_motion_module
from .networks import with_motion_loras
from .noise import first_noise, sample_runs, unit_noise
from .prompts import NumberedConditions, conditions_by_number
from .start.held import HeldParts
from .start.inpainting import attached
from .start.pins import held
from .start.runs import ClipRuns


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
        with ExitStack() as stack:
            pinned = job.pinned
            parts = None if job.start is None or not job.start.has_parts else HeldParts(job.start, pipeline.scheduler)
            if parts is not None:  # before the pinned frames, which have the last word
                stack.enter_context(parts.attached(pipeline.unet))
            hooks = None if pinned is None else stack.enter_context(held(pinned, pipeline.unet, pipeline.scheduler))
            stack.enter_context(attached(job.inpainting, pipeline.unet))
            injection, kwargs = stack.enter_context(
                self.injected(pipeline, plan, job.controls, job.kwargs, evaluate=job.evaluate)
            )
            runs = ClipRuns(job, kwargs, injection, parts, hooks)
            is_drawn_by_pipeline = job.start is None and pinned is None and job.inpainting is None
            draw = first_noise if is_drawn_by_pipeline else unit_noise
            noise = draw(plan, job.generators, job.like)
            return sample_runs(
                plan, runs.run, noise, float(pipeline.scheduler.alphas_cumprod[-1]), job.resumable.first_run
            )

    @contextmanager
    def injected(
        self,
        pipeline: Any,
        plan: ClipPlan,
        controls: Controls,
        kwargs: Mapping[str, Any],
        *,
        evaluate: Evaluate | None = None,
    ) -> Iterator[tuple[Injection, dict[str, Any]]]:
        """Put the modules and controls into the pipeline's UNet.

        Args:
            kwargs: the pipeline's keyword arguments for prompts.
            evaluate: computes context windows elsewhere; None: here.

        Yields:
            The injection, and the keyword arguments for calls of the pipeline inside the block.
        """
        check_paired(self.modules, controls)
        scale = getattr(plan.method, "scale", None)
        components = [
            MotionComponent(module, scale)
            if isinstance(module, MotionModule)
            # The scale of a preview is that of all: no motion.
            else (module if plan.makes_clip else module.with_scale(scale))
            for module in self.modules
        ]
        given, numbered = dict(kwargs), list[NumberedConditions]()
        if plan.windows is not None:
            given, numbered = conditions_by_number(pipeline, given, len(plan.rendered))
        with inject(
            pipeline.unet,
            *components,
            *controls,
            *numbered,
            frames=len(plan.rendered),
            windows=plan.windows,
            reuse=plan.reuse,
            evaluate_windows=evaluate,
        ) as injection:
            yield injection, given


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
