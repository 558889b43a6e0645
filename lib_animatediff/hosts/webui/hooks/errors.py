"""Refusals of requests and checkpoints that cannot be animated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lib_animatediff.engine.memory import is_out_of_memory
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.host_models import host_model, lacks_noise_levels
from lib_animatediff.request.methods import Method
from motion_module import ClipError, IncompatibleModelError

# Scripts that pass an image on to their next run, by title in small letters.
_SCRIPTS_ON_IMAGES = frozenset(
    {
        "img2img alternative test",
        "loopback",
        "outpainting mk2",
        "poor man's outpainting",
        "sd upscale",
        "ultimate sd upscale",
    }
)

_ROW_BY_ROW = "ODE "  # how the names of reForge's samplers begin that make each image by itself


@contextmanager
def explain_out_of_memory(estimate: Callable[[], str]) -> Iterator[None]:
    """Replace an out-of-memory error by one that names the settings to lower.

    Args:
        estimate: returns the estimate that was shown before sampling.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        raise ClipError(
            "Memory ran out. Lower the context length, the batch size or width and height, and turn off Attention "
            f"views. The clip needed: {estimate()}",
            code="AD-W16",
        ) from error


def refuse_request(p: Any) -> None:
    """Refuse a request that cannot be animated.

    Raises:
        ClipError: the request has a refiner, a script that works on single images runs it, or its sampler makes images
            one by one.
    """
    title = a1111.selected_script(p)
    if title in _SCRIPTS_ON_IMAGES:
        raise ClipError(
            f'The script "{title}" makes images out of images or of their parts, and would render a clip for each. '
            "Set Script to None, or disable AnimateDiff.",
            code="AD-W22",
        )
    switch_at = p.refiner_switch_at  # None and 0 switch at the first step, 1 never
    counts_steps = getattr(a1111.opts(), "refiner_use_steps", True)  # otherwise it is a noise level, in Forge Neo
    is_used = switch_at is None or switch_at < 1 or not counts_steps
    if getattr(p, "refiner_checkpoint_info", None) is not None and is_used:
        raise ClipError(
            "AnimateDiff does not work with a refiner, which replaces the model during sampling. Turn it off.",
            code="AD-W17",
        )
    second = getattr(p, "hr_sampler_name", None) if getattr(p, "enable_hr", False) else None
    for sampler in (p.sampler_name, second):
        if (sampler or "").startswith(_ROW_BY_ROW):
            raise ClipError(
                f"The sampler {sampler} makes each image by itself, and a clip needs all frames at once. Choose "
                "another one, such as Euler a.",
                code="AD-W26",
            )


def refuse_model(sd_model: Any, method: Method) -> None:
    """Refuse a checkpoint that cannot be animated.

    Args:
        method: the method of the clip.

    Raises:
        IncompatibleModelError: there are no motion modules for the checkpoint, its UNet is replaced, or it has none.
    """
    if method.any_base and getattr(sd_model, "is_sd3", False):
        raise IncompatibleModelError(
            f"This checkpoint is Stable Diffusion 3, which has no UNet for {method.name} to look "
            "into. Choose one of Stable Diffusion 1.5, 2 or SDXL.",
            code="AD-W18",
        )
    if lacks_noise_levels(sd_model):
        raise IncompatibleModelError(
            "This checkpoint is sampled without a table of noise levels, as Flux is, which a motion module and "
            "Text2Video-Zero need. Choose one of Stable Diffusion 1.5 or SDXL.",
            code="AD-W28",
        )
    if getattr(sd_model, "cond_stage_key", None) == "edit":
        raise IncompatibleModelError(
            "This checkpoint edits images by instruction (InstructPix2Pix), for which there are no motion modules. "
            "Choose a standard checkpoint of Stable Diffusion 1.5 or SDXL.",
            code="AD-W19",
        )
    for flag, name in (("is_ssd", "SSD-1B"), ("is_sd2", "Stable Diffusion 2"), ("is_sd3", "Stable Diffusion 3")):
        if getattr(sd_model, flag, False) and not method.any_base:
            raise IncompatibleModelError(
                f"This checkpoint is {name}, for which there are no motion modules. Choose one of Stable Diffusion 1.5 "
                "or SDXL.",
                code="AD-W20",
            )
    host_model(sd_model)
    if replacement := a1111.unet_replacement():
        raise IncompatibleModelError(
            f"{replacement} replaces the UNet and cannot be animated. Set SD Unet to None in the settings.",
            code="AD-W21",
        )
