"""Make a clip with a diffusers pipeline: the same `inject`, on the diffusers UNet."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.builtin_model import STABLE_DIFFUSION_15, CheckpointError
from lib_animatediff.engine.components.domain_adapter import apply_domain_adapters
from lib_animatediff.engine.context_windows import ContextWindows
from lib_animatediff.engine.inject import check_frames, inject
from lib_animatediff.engine.motion_scale import MotionScale
from lib_animatediff.request.settings import ClipSettings, motion_scale, refuse_with_text2video_zero
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from motion_module import ClipError, DomainAdapter, MotionModule
from motion_module.schedules import SCALED_LINEAR, TRAINING_STEPS, BetaSchedule

from . import directed
from . import text2video_zero as zero

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor

CONFIG_INDEX = "model_index.json"
PIXELS_PER_LATENT = 8
SAMPLERS: dict[str, tuple[str, dict[str, Any]]] = {  # name: diffusers' class and its options; ddim as officially
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler-a": ("EulerAncestralDiscreteScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
}
_NOISE_LEVELS = (  # what diffusers' schedulers call the choice of a checkpoint's own
    "num_train_timesteps",
    "beta_schedule",
    "beta_start",
    "beta_end",
    "trained_betas",
    "rescale_betas_zero_snr",
)


def check_request(*, seed: int, size: tuple[int, int], steps: int, cfg: float) -> None:
    """Look for what can be refused before anything is loaded.

    Raises:
        ClipError: a value is out of range.
    """
    if not 0 <= seed < SEED_LIMIT:
        raise ClipError(f"seed must be between 0 and {SEED_LIMIT - 1}, not {seed}.")
    for name, pixels in zip(("width", "height"), size, strict=True):
        if pixels < PIXELS_PER_LATENT or pixels % PIXELS_PER_LATENT:
            raise ClipError(f"{name} must be a multiple of {PIXELS_PER_LATENT} above 0, not {pixels}.")
    # The official sampler starts one step late, so that it has one step less than the training.
    if not 1 <= steps < TRAINING_STEPS:
        raise ClipError(f"steps must be between 1 and {TRAINING_STEPS - 1}, not {steps}.")
    if not math.isfinite(cfg):
        raise ClipError(f"cfg must be a number, not {cfg}.")


def check_host(checkpoint: Path, device: str) -> None:
    """Look for what `load_pipeline` would stumble on after slow work.

    Raises:
        CheckpointError: there is no such file or no such device.
    """
    import torch

    if not checkpoint.is_file():
        raise CheckpointError(f"There is no checkpoint {checkpoint}. Check the path.")
    try:
        torch.ones(1, device=device).item()
    except Exception as error:  # each backend raises its own
        raise CheckpointError(
            f"torch cannot compute on {device!r}. Use --device cpu, or install a torch that is built for it (README)."
        ) from error


def find_config(checkpoint: Path, config: Path | None = None) -> Path:
    """The folder with tokenizer and configs: the one given, one named ``config`` beside the checkpoint, or our own.

    Raises:
        CheckpointError: the one given is no such folder.
    """
    if config is None:
        beside = checkpoint.parent / "config"
        return beside if _is_config(beside) else STABLE_DIFFUSION_15
    if not _is_config(config):
        raise CheckpointError(
            f"There is no {CONFIG_INDEX} in {config}. Give --config the folder of a model as diffusers' "
            "save_pretrained writes it (its weights are not needed), or leave it out for Stable Diffusion 1.5."
        )
    return config


def _is_config(folder: Path) -> bool:
    return (folder / CONFIG_INDEX).is_file()


def load_pipeline(checkpoint: Path, *, config: Path | None = None, device: str = "cpu") -> Any:
    """A diffusers pipeline from a Stable Diffusion 1.5 single file; float32 on a CPU, float16 elsewhere.

    Args:
        checkpoint: ``.safetensors`` or ``.ckpt`` file.
        config: folder with tokenizer and configs, as ``save_pretrained`` writes them; see `find_config`.
        device: torch's name of it.

    Raises:
        CheckpointError: the file is missing or broken, there is no such device, or ``config`` is no such folder.
    """
    check_host(checkpoint, device)
    folder = find_config(checkpoint, config)
    # Every Stable Diffusion 1.5 has the same tokenizer, so a folder of configs may leave it out.
    tokenizer = folder if (folder / "tokenizer").is_dir() else STABLE_DIFFUSION_15
    import torch

    with _quiet_libraries():
        from diffusers import StableDiffusionPipeline
        from transformers import CLIPTokenizer

        try:
            pipeline = StableDiffusionPipeline.from_single_file(
                str(checkpoint),
                config=str(folder),
                local_files_only=True,
                torch_dtype=torch.float32 if torch.device(device).type == "cpu" else torch.float16,
                safety_checker=None,
                tokenizer=CLIPTokenizer.from_pretrained(tokenizer / "tokenizer"),
            ).to(device)
        except Exception as error:  # diffusers raises whatever its parts raise
            reason = next(iter(str(error).strip().splitlines()), type(error).__name__).split(". ")[0]
            raise CheckpointError(
                f"{checkpoint.name} could not be loaded as Stable Diffusion 1.5: {reason.rstrip('. ')}. "
                "Check that it is a whole checkpoint of that base, and that --config, if given, belongs to it."
            ) from error
    pipeline.vae.enable_slicing()  # all frames at once would need memory by the gigabyte
    return pipeline


@contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Both libraries warn about what is meant to be so: no safety checker, no torchvision."""
    from diffusers.utils import logging as of_diffusers
    from transformers.utils import logging as of_transformers

    former = [(log, log.get_verbosity()) for log in (of_diffusers, of_transformers)]
    for log, _ in former:
        log.set_verbosity_error()
    showed_progress = of_diffusers.is_progress_bar_enabled()
    of_diffusers.disable_progress_bar()
    try:
        yield
    finally:
        for log, verbosity in former:
            log.set_verbosity(verbosity)
        if showed_progress:
            of_diffusers.enable_progress_bar()


def animate(
    pipeline: Any,
    motion: MotionModule | Text2VideoZero,
    *,
    prompt: str,
    negative_prompt: str = "",
    seed: int = 0,
    frames: int = 16,
    windows: ContextWindows | None = None,
    settings: ClipSettings | None = None,
    adapters: Sequence[tuple[DomainAdapter, float]] = (),
    size: tuple[int, int] = (512, 512),
    steps: int = 25,
    cfg: float = 7.5,
    sampler: str = "ddim",
    on_step: Callable[[], None] = lambda: None,
    say: Callable[[str], None] = lambda _line: None,
) -> list[Image]:
    """One clip; frame i starts from the noise of seed ``seed + i``, as in the WebUI.

    Args:
        pipeline: a diffusers ``StableDiffusionPipeline``. Its scheduler is put back afterwards.
        motion: a motion module; or Text2Video-Zero, which takes the pipeline's own noise levels.
        prompt: may travel, see `lib_animatediff.prompts.travel`; ``negative_prompt``, too.
        frames: of the clip; a poster has one.
        windows: how a clip longer than the motion module's trained length is cut, see `inject`.
        settings: amount of motion, noise and how prompts travel; all else in it is said by other arguments, and that of
            Text2Video-Zero by ``motion``.
        adapters: domain adapters with strengths.
        size: width and height in pixels.
        sampler: a name of `SAMPLERS`.
        on_step: called after each sampling step.
        say: called with a line about each domain adapter, on how much of it has a place.

    Raises:
        AnimateDiffError: see `inject`, `check_request` and `refuse_with_text2video_zero`; or the clip does not fit into
            the device's memory.
    """
    import torch

    settings = replace(settings or ClipSettings(), frames=frames)
    check_request(seed=seed, size=size, steps=steps, cfg=cfg)
    if isinstance(motion, Text2VideoZero):
        check_frames(motion, frames)
        refuse_with_text2video_zero(settings)
    is_poster = settings.poster
    rows = 1 if is_poster else frames
    seeds = directed.seeds_of(settings, seed, rows)
    former = pipeline.scheduler
    pipeline.scheduler = new_sampler(sampler, former, None if isinstance(motion, Text2VideoZero) else motion.schedule)
    try:
        prompts = directed.prompts_of(pipeline, prompt, negative_prompt, rows, settings)
        told = {**prompts, "width": size[0], "height": size[1], "guidance_scale": cfg}
        # On the CPU, so that a seed is the same clip on every machine.
        generators = [torch.Generator().manual_seed(each) for each in seeds]
        small = [pixels // PIXELS_PER_LATENT for pixels in reversed(size)]
        like = torch.empty(rows, pipeline.unet.config.in_channels, *small, dtype=pipeline.dtype, device=pipeline.device)
        with apply_domain_adapters(pipeline.unet, adapters) as matches:
            for match in matches:
                say(str(match))
            if isinstance(motion, Text2VideoZero):
                told["num_inference_steps"] = steps
                noise = directed.unit_noise(settings, generators, like)
                pictures = zero.render(pipeline, motion, told, generators, noise, windows=windows, on_step=on_step)
            else:
                first = directed.first_noise(settings, generators, like)
                pictures = _render(pipeline, motion, told, generators, seeds, first, settings, windows, steps, on_step)
    except torch.cuda.OutOfMemoryError as error:
        raise ClipError(
            f"{frames} frames of {size[0]}x{size[1]} do not fit into the memory of {pipeline.device}. "
            "Lower frames, width or height."
        ) from error
    finally:
        pipeline.scheduler = former
    return list(pictures)


def _render(
    pipeline: Any,
    motion: MotionModule,
    told: Mapping[str, Any],
    generators: list[torch.Generator],
    seeds: list[int],
    noise: Tensor | None,
    settings: ClipSettings,
    windows: ContextWindows | None,
    steps: int,
    on_step: Callable[[], None],
) -> Any:
    """The pictures of a clip that a motion module makes."""
    injection = inject(
        pipeline.unet,
        motion,
        frames=len(generators),
        windows=None if settings.poster else windows,
        amount=MotionScale(effect=(0.0,)) if settings.poster else motion_scale(settings),
    )
    with injection as injected:

        def run(latents: Any, count: int, is_last: bool) -> Any:
            injected.progress = 0.0

            def after_step(_pipeline: Any, step: int, _timestep: int, kept: dict[str, Any]) -> dict[str, Any]:
                injected.progress = (step + 1) / count
                on_step()
                return kept

            return pipeline(
                **told,
                latents=latents,
                generator=generators,
                num_inference_steps=count,
                callback_on_step_end=after_step,
                output_type="pil" if is_last else "latent",
            ).images

        return directed.run_rounds(
            run,
            settings,
            seeds,
            noise,
            steps=steps,
            last_alpha_cumprod=float(pipeline.scheduler.alphas_cumprod[-1]),
        )


def new_sampler(name: str, former: Any, schedule: BetaSchedule | None) -> Any:
    """A sampler on the motion module's noise levels, with the official configurations' choice of timesteps.

    Only what belongs to the checkpoint comes from its own scheduler: what its UNet predicts; and, where there is no
    ``schedule`` of a motion module, its noise levels.
    """
    import diffusers

    if name not in SAMPLERS:
        raise ClipError(f"There is no sampler {name!r}. Choose one of {', '.join(SAMPLERS)}.")
    class_name, options = SAMPLERS[name]
    levels = _levels(SCALED_LINEAR if schedule is None else schedule)
    if schedule is None:
        levels |= {key: former.config[key] for key in _NOISE_LEVELS if former.config.get(key) is not None}
    return getattr(diffusers, class_name)(
        **levels,
        steps_offset=1,
        timestep_spacing="leading",
        prediction_type=former.config.get("prediction_type", "epsilon"),
        **options,
    )


def _levels(schedule: BetaSchedule) -> dict[str, Any]:
    return {
        "num_train_timesteps": schedule.steps,
        "beta_schedule": schedule.name,
        "beta_start": schedule.beta_start,
        "beta_end": schedule.beta_end,
    }
