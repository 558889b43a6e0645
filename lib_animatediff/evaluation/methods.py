"""The methods to compare: the same prompts and seeds, with and without a mechanism for temporal consistency."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import new_sampler
from lib_animatediff.request.settings import parse_settings
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from motion_module import MotionModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .flow import Frames


@dataclass(frozen=True)
class Method:
    """A method of rendering a clip.

    Attributes:
        key: identifier in files and results.
        title: title on the page.
        name: name inside a sentence.
        about: description, a sentence.
        is_control: whether it is a reference for interpreting the metrics, not a competitor.
    """

    key: str
    title: str
    name: str
    about: str
    is_control: bool = False


FROZEN = Method(
    "frozen",
    "Frozen frame",
    "a frozen frame",
    "A single image, repeated: maximal smoothness, no motion.",
    is_control=True,
)
INDEPENDENT = Method(
    "independent",
    "Independent frames",
    "independent frames",
    "A batch of images with the clip's seeds: the image model without any mechanism for motion.",
    is_control=True,
)
ZERO = Method(
    "text2video-zero",
    "Text2Video-Zero",
    "Text2Video-Zero",
    "No training: the first frame's latents are shifted, and every frame attends to the first one.",
)
MODULE = Method("module", "Motion module", "the motion module", "AnimateDiff: the image model with the motion module.")
METHODS = (FROZEN, INDEPENDENT, ZERO, MODULE)
RENDERED = (INDEPENDENT, ZERO, MODULE)  # the frozen frame is the first independent one


@dataclass(frozen=True)
class Sampling:
    """Sampling options of all images.

    Attributes:
        size: width and height in pixels.
        frames: frames per clip.
        sampler: a key of `hosts.diffusers.pipeline.SAMPLERS`.
    """

    size: tuple[int, int]
    frames: int
    steps: int
    cfg: float
    sampler: str
    negative_prompt: str = ""


def render(
    method: Method,
    pipeline: Any,
    motion: MotionModule | Text2VideoZero,
    prompt: str,
    seed: int,
    how: Sampling,
) -> Frames:
    """Render a clip, ``f h w 3``. Frame i starts from the noise of ``seed + i``, whatever the method.

    Args:
        method: one of `RENDERED`.
        pipeline: a diffusers pipeline, which is left unchanged.
        motion: motion module or Text2Video-Zero; not used for independent frames.

    Raises:
        AnimateDiffError: see `hosts.diffusers.pipeline.animate`.
    """
    if method is INDEPENDENT:
        return stills(pipeline, prompt, [seed + frame for frame in range(how.frames)], how)
    images = animate(
        pipeline,
        motion,
        prompt=prompt,
        negative_prompt=how.negative_prompt,
        seed=seed,
        frames=how.frames,
        settings=parse_settings({"context_length": how.frames}),  # in one piece, as `check` allows
        size=how.size,
        steps=how.steps,
        cfg=how.cfg,
        sampler=how.sampler,
    )
    return np.stack([np.asarray(image.convert("RGB")) for image in images])


def stills(pipeline: Any, prompt: str, seeds: Sequence[int], how: Sampling) -> Frames:
    """Render images without motion on the checkpoint's own noise levels, one per seed: ``n h w 3``."""
    import torch

    former = pipeline.scheduler
    pipeline.scheduler = new_sampler(how.sampler, former, None)
    try:
        images = pipeline(
            prompt,
            negative_prompt=how.negative_prompt,
            num_images_per_prompt=len(seeds),
            # CPU generators give the same image for a seed on every machine.
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            width=how.size[0],
            height=how.size[1],
            num_inference_steps=how.steps,
            guidance_scale=how.cfg,
        ).images
    finally:
        pipeline.scheduler = former
    return np.stack([np.asarray(image.convert("RGB")) for image in images])
