"""Make a clip with a diffusers pipeline: the same `inject`, on the diffusers UNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.injection import inject
from motion_module import AnimateDiffError, MotionModule
from motion_module.schedules import BetaSchedule

if TYPE_CHECKING:
    from PIL.Image import Image

CONFIG_REPOSITORY = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # tokenizer and configs of Stable Diffusion 1.5


class CheckpointError(AnimateDiffError):
    """The checkpoint cannot be loaded into a pipeline."""


def load_pipeline(checkpoint: Path, *, config: Path | None = None, device: str = "cpu") -> Any:
    """A diffusers pipeline from a Stable Diffusion 1.5 single file; float32 on a CPU, float16 elsewhere.

    Args:
        checkpoint: ``.safetensors`` or ``.ckpt`` file.
        config: folder with tokenizer and configs, as ``save_pretrained`` writes them. Without it those of Stable
            Diffusion 1.5 come from the local Hugging Face cache, or from the hub where there is a network.
        device: torch's name of it.

    Raises:
        CheckpointError: the file is missing or broken, or tokenizer and configs cannot be had.
    """
    import torch
    from diffusers import StableDiffusionPipeline

    if not checkpoint.is_file():
        raise CheckpointError(f"There is no checkpoint {checkpoint}. Check the path.")
    try:
        pipeline = StableDiffusionPipeline.from_single_file(
            str(checkpoint),
            config=str(config or CONFIG_REPOSITORY),
            local_files_only=config is not None,
            torch_dtype=torch.float32 if device == "cpu" else torch.float16,
            safety_checker=None,
        )
    except Exception as error:  # diffusers raises whatever its parts raise
        raise CheckpointError(
            f"{checkpoint.name} could not be loaded: {error}\n"
            "If tokenizer and configs are what is missing, give their folder with --config."
        ) from error
    return pipeline.to(device)


def animate(
    pipeline: Any,
    motion: MotionModule,
    *,
    prompt: str,
    negative_prompt: str = "",
    seed: int = 0,
    frames: int = 16,
    size: tuple[int, int] = (512, 512),
    steps: int = 25,
    cfg: float = 7.5,
    on_step: Callable[[], None] = lambda: None,
) -> list[Image]:
    """One clip; frame i starts from the noise of seed ``seed + i``, as in the WebUI.

    Args:
        pipeline: a diffusers ``StableDiffusionPipeline``. Its scheduler is put back afterwards.
        size: width and height in pixels.
        on_step: called after each sampling step.

    Raises:
        AnimateDiffError: see `inject`.
    """
    import torch

    def after_step(_pipeline: Any, _step: int, _timestep: int, kept: dict[str, Any]) -> dict[str, Any]:
        on_step()
        return kept

    former = pipeline.scheduler
    pipeline.scheduler = _official_sampler(former, motion.schedule)
    try:
        with inject(pipeline.unet, motion, frames=frames):
            result = pipeline(
                prompt,
                negative_prompt=negative_prompt,
                num_images_per_prompt=frames,
                # On the CPU, so that a seed is the same clip on every machine.
                generator=[torch.Generator().manual_seed(seed + frame) for frame in range(frames)],
                width=size[0],
                height=size[1],
                num_inference_steps=steps,
                guidance_scale=cfg,
                callback_on_step_end=after_step,
            )
    finally:
        pipeline.scheduler = former
    return list(result.images)


def _official_sampler(scheduler: Any, schedule: BetaSchedule) -> Any:
    """DDIM as in the official configurations (`paper.md` 2.4), on the motion module's noise levels."""
    from diffusers import DDIMScheduler

    return DDIMScheduler.from_config(
        scheduler.config,
        beta_schedule=schedule.name,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        clip_sample=False,
        steps_offset=1,
        timestep_spacing="leading",
    )
