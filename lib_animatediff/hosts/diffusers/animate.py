"""Renders a clip with a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from lib_animatediff.engine.components.motion import MotionComponent
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.memory import is_out_of_memory
from lib_animatediff.request.control.colours import colour_match
from lib_animatediff.request.control.unit import AnyUnit
from lib_animatediff.request.distilled import SamplerSettings
from lib_animatediff.request.plan import ClipPlan, Sampling, add_controls, add_ramp, plan_clip
from lib_animatediff.request.settings import (
    CONTROL_SETTINGS,
    GUIDE_SETTINGS,
    IMAGE_SETTINGS,
    VIDEO_SETTINGS,
    ClipSettings,
    refuse_without_effect,
)
from lib_animatediff.request.start.kept import check_kept_size, kept_pixels
from lib_animatediff.request.start.pins import PinnedFrames
from lib_animatediff.request.start.ramp import ImageRamp
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from lib_animatediff.video.spool import SpooledFrames
from motion_module import ClipError, MotionModule

from . import motion_module, text2video_zero  # noqa: F401 - each registers its method
from .control.camera import camera_notes
from .control.units import check_controls, load_controls, memory_notes
from .decode import Decode, decode_frames
from .methods import Adapters, Elsewhere, LoadedMethod, SamplingJob, load_method
from .networks import PathCatalog
from .noise import share_step_noise
from .pipeline import CFG, PIXELS_PER_LATENT, SAMPLER, SAMPLERS, check_request, check_sampler, new_sampler
from .prompts import check_prompts, prompt_kwargs
from .speed import ClipFiles, choose_sampling, clip_files
from .start.enlarged import enlarged_latents, plan_of_second_pass
from .start.inpainting import attached, inpainting_condition
from .start.pins import check_images, pinned_latents
from .start.ramp import ramp_latents
from .start.resuming import ResumableSampling, StateKeeper
from .start.video import check_video, start_latents

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

Motion = MotionModule | MotionComponent | Sequence[MotionModule | MotionComponent] | Text2VideoZero

_FILE_SETTINGS = ("fps", "loop_count", "formats")  # they affect the files of a clip only
_TEXT2VIDEO_ZERO_SETTINGS = ("zero_x", "zero_y", "zero_smoothing")
_SCALE_SETTINGS = (
    "scale",
    "effect",
    "scale_steps",
    "effect_steps",
    "effect_start",
    "effect_end",
    "blocks",
    "motion_mask",
)


def animate(
    pipeline: Any,
    motion: Motion | ClipPlan,
    *,
    prompt: str = "",
    negative_prompt: str = "",
    seed: int = 0,
    frames: int | None = None,
    windows: ContextWindows | None = None,
    settings: ClipSettings | None = None,
    adapters: Adapters = (),
    video: VideoStart | None = None,
    pins: PinnedFrames | None = None,
    ramp: ImageRamp | None = None,
    controls: Sequence[AnyUnit] = (),
    size: tuple[int, int] = (512, 512),
    steps: int | None = None,
    cfg: float | None = None,
    sampler: str | None = None,
    spacing: str | None = None,
    decoder: Decode | None = None,
    output: Path | None = None,
    on_step: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Image]:
    """Render one clip. Frame i starts from the noise of seed ``seed + i``, as in the WebUI.

    Args:
        pipeline: a diffusers ``StableDiffusionPipeline``, such as `load_pipeline` returns. It is unchanged afterwards.
        motion: a motion module; several of them, the first of which sets the noise schedule; `Text2VideoZero`; or a
            `ClipPlan`, which replaces ``steps`` and the arguments up to ``settings`` except ``windows``.
        prompt: may be a prompt travel, see docs/features.md; likewise ``negative_prompt``.
        frames: overrides ``settings.frames``.
        windows: overrides the context windows of ``settings``.
        settings: every setting of docs/settings.md. ``motion_loras`` contains paths here.
        adapters: further domain adapters with strengths.
        video: start from the frames of a video instead of noise. The number of frames, the rate and the size stay those
            of the other arguments; `examine` tells what the video has.
        pins: frames of the clip that are given images.
        ramp: start from one or two images that fade into noise over the frames.
        controls: ControlNets, T2I adapters and other models that steer the clip, see `ControlUnit`; several of them
            add up. And one `CameraUnit`.
        size: width and height in pixels, multiples of 8; with ``upscale`` in ``settings``, those of the first pass.
        steps, cfg, sampler, spacing: of the sampler: a name of `pipeline.SAMPLERS` and one of its spacings. None: those
            of the official configurations (25 steps, CFG 7.5, ddim), or, with ``speed="fast"`` in ``settings``, those
            that a distilled motion module was trained for.
        decoder: from `load_decoder`; None: the VAE of the pipeline.
        output: also write the files of the clip, with the formats, fps and loop count of ``settings``. The formats
            determine the suffixes.
        on_step: called after each sampling step.
        say: called with one line per setting that was changed and has no effect under the others, one per motion LoRA
            and domain adapter, which reports how much of it fits, and one about a distilled motion module that is
            sampled in another way than it was trained for.

    Returns:
        The frames in the order of playback, ping-pong and interpolation included.

    Raises:
        AnimateDiffError: a value is out of range, a setting has no effect here, a file or the motion module does not
            fit, or memory ran out.
    """
    if isinstance(motion, ClipPlan):
        given = {"prompt": prompt, "negative_prompt": negative_prompt, "seed": seed, "frames": frames, "video": video}
        given |= {"pins": pins, "ramp": ramp, "controls": tuple(controls), "settings": settings, "steps": steps}
        _refuse_with_plan(given)
        plan, method = motion, load_method(motion.method, motion)
        how = choose_sampling(
            clip_files(plan.method.modules),
            plan.settings.speed,
            SamplerSettings(sampler, spacing, plan.sampling.steps, cfg),
            negative_prompt=plan.sampling.negative_prompt,
        )
    else:
        settings = settings or ClipSettings()
        settings = settings if frames is None else replace(settings, frames=frames)
        name = _name(motion)
        if settings.model not in ("", name):
            raise ClipError(
                f"The settings have model={settings.model!r}, but the motion module passed is {name}. Remove model "
                "from the settings.",
                code="AD-D02",
            )
        for names, advice in _without_effect(motion, output):
            refuse_without_effect(settings, names, advice)
        how = choose_sampling(
            _files(motion),
            settings.speed,
            SamplerSettings(sampler, spacing, steps, cfg),
            negative_prompt=negative_prompt,
        )
        sampling = Sampling(prompt, negative_prompt, seed=seed, steps=how.steps)
        plan = plan_clip(replace(settings, model=name), sampling, PathCatalog()).with_video(video).with_pins(pins)
        plan = add_controls(add_ramp(plan, ramp), controls)
        method = load_method(motion, plan)
    if windows is not None and plan.makes_clip:
        plan = plan.with_windows(windows)
    check_video(plan)
    check_images(plan)
    check_kept_size(plan, size)
    check_controls(plan, pipeline.unet.config)
    for line in (*how.lines, *notes_at(plan, size)):
        say(line)
    images = render(
        pipeline,
        plan,
        method,
        adapters=adapters,
        size=size,
        cfg=how.cfg,
        sampler=how.sampler,
        spacing=how.spacing,
        decoder=decoder,
        on_step=on_step,
        say=say,
    )
    return _finish(images, plan, output)


def render(
    pipeline: Any,
    plan: ClipPlan,
    method: LoadedMethod,
    *,
    adapters: Adapters = (),
    size: tuple[int, int] = (512, 512),
    cfg: float = CFG,
    sampler: str = SAMPLER,
    spacing: str | None = None,
    decoder: Decode | None = None,
    on_step: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _line: None,
    states: StateKeeper | None = None,
    elsewhere: Elsewhere | None = None,
) -> SpooledFrames:
    """The rendered frames of a plan, each once, decoded when they are read; arguments as for `animate`.

    The caller says the plan's notes, before it loads anything.

    Args:
        states: keeps states of the sampling, from which it can go on. ``on_step`` is called for finished steps, too.
        elsewhere: computes the context windows; None: this pipeline does.

    Raises:
        AnimateDiffError: the method does not fit, or memory ran out.
    """
    import torch

    check_request(seed=plan.sampling.seed, size=size, steps=plan.sampling.steps, cfg=cfg)
    check_prompts(plan)
    check_sampler(sampler, spacing, plan.sampling.steps)
    former, resumable = pipeline.scheduler, ResumableSampling(states)

    def shape_at(size: tuple[int, int]) -> tuple[int, ...]:
        sides = (pixels // PIXELS_PER_LATENT for pixels in reversed(size))
        return len(plan.seeds), pipeline.vae.config.latent_channels, *sides

    def sampled(plan: ClipPlan, first: Tensor | None = None) -> Tensor:
        """The latents of a pass; the second one starts from those of the first."""
        pipeline.scheduler = new_sampler(sampler, former, method.schedule, spacing)
        # On the CPU, so that a seed gives the same clip on every machine.
        generators = [torch.Generator().manual_seed(each) for each in plan.seeds]
        share_step_noise(pipeline.scheduler, generators, plan.noise.share)
        resumable.begin_pass(pipeline, generators, first)
        kwargs = {**prompt_kwargs(pipeline, plan), "width": size[0], "height": size[1], "guidance_scale": cfg}
        kwargs["eta"] = SAMPLERS[sampler].eta
        like = torch.empty(shape_at(size), dtype=pipeline.dtype, device=pipeline.device)
        if first is None:
            start = start_latents(pipeline, plan, like) or ramp_latents(pipeline, plan, generators, like)
        else:
            start = enlarged_latents(pipeline, plan, first, like, decoder)
        inpainting = inpainting_condition(pipeline, plan, like)
        with attached(inpainting, pipeline.unet):  # for the inversion of images
            pinned = pinned_latents(pipeline, plan, kwargs, like, former)
        steered = [control.component(size) for control in controls]
        evaluate = None if elsewhere is None else partial(elsewhere, size)
        job = SamplingJob(
            pipeline, plan, kwargs, generators, like, on_step, start, pinned, steered, inpainting, resumable, evaluate
        )
        latents: Tensor = method.sample(job)
        return latents

    second_pass = plan.second_pass
    sizes = [size, *([] if second_pass is None else [second_pass.size(size)])]
    resumable.check([shape_at(each) for each in sizes], plan.sampled_steps)
    try:
        with apply_domain_adapters(pipeline.unet, [*method.adapters, *adapters]) as matches:
            for line in (*method.reports, *map(str, matches)):
                say(line)
            controls = load_controls(pipeline, plan, say)
            needs = memory_notes(controls, plan, sizes[-1])
            for line in (*needs, *camera_notes(controls, getattr(method, "modules", ()))):
                say(line)
            for _ in range(resumable.sampled):
                on_step()
            first = None if resumable.found is None else resumable.found.first
            latents = sampled(plan) if first is None else first.to(pipeline.device)
            if second_pass is not None:
                size = second_pass.size(size)
                latents = sampled(plan_of_second_pass(plan), latents)
            return decode_frames(pipeline, latents, decoder, kept_pixels(plan), colour_match(plan))
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise ClipError(
            f"{len(plan.rendered)} frames of {size[0]}x{size[1]} do not fit into the memory of {pipeline.device}. "
            "Lower the number of frames or the size, or use context windows.",
            code="AD-D01",
        ) from error
    finally:
        pipeline.scheduler = former


def notes_at(plan: ClipPlan, size: tuple[int, int]) -> list[str]:
    """A sentence about each setting of the plan that has no effect, at this size in pixels."""
    enlarged = plan.second_pass.note(size) if plan.second_pass else None
    return [*map(str, plan.notes), *([enlarged] if enlarged else [])]


def _refuse_with_plan(given: Mapping[str, Any]) -> None:
    defaults = animate.__kwdefaults__ or {}
    names = [name for name, value in given.items() if value != defaults[name]]
    if names:
        raise ClipError(
            f"{', '.join(names)} would have no effect together with a plan. Create the plan with these values.",
            code="AD-D03",
        )


def _without_effect(motion: Motion, output: Path | None) -> Iterator[tuple[Sequence[str], str]]:
    """Settings that would have no effect in a call of `animate`, with advice."""
    yield ("request_id",), "Name the output instead"
    yield ("resume",), "Use the command line, which has resume"
    yield VIDEO_SETTINGS, "Pass video=VideoStart(...) instead"
    yield (*GUIDE_SETTINGS, *CONTROL_SETTINGS), "Pass controls=[ControlUnit(...)] instead"
    yield IMAGE_SETTINGS, "Pass pins=PinnedFrames(...) or ramp=ImageRamp(...) instead"
    yield _TEXT2VIDEO_ZERO_SETTINGS, "Pass Text2VideoZero(...) with the values instead"
    if output is None:
        yield _FILE_SETTINGS, "Pass output to write the clip's files"
    given = motion if isinstance(motion, Sequence) else [motion]
    if all(isinstance(one, MotionComponent) for one in given):
        yield _SCALE_SETTINGS, "Give the components a scale instead"


def _name(motion: Motion) -> str:
    first = motion[0] if isinstance(motion, Sequence) and motion else motion
    return str(getattr(first, "name", ""))


def _files(motion: Motion) -> ClipFiles:
    """The names and kinds of motion modules that the caller has loaded."""
    given = motion if isinstance(motion, Sequence) else [motion]
    return ClipFiles([(one.name, one.kind) for one in given if isinstance(one, (MotionModule, MotionComponent))])


def _finish(images: SpooledFrames, plan: ClipPlan, output: Path | None) -> list[Image]:
    from lib_animatediff.video import write_clip

    shown = plan.output.shown(images)
    if output is not None:
        clip = plan.output
        write_clip(output, shown, formats=clip.formats, fps=clip.shown_fps, loop_count=clip.loop_count)
    return list(shown)
