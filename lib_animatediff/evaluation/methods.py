"""What is compared: the same prompt and seeds, with and without something that makes frames belong together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lib_animatediff.hosts.diffusers.animate import animate
from lib_animatediff.hosts.diffusers.pipeline import new_sampler
from lib_animatediff.sampling.text2video_zero import Text2VideoZero
from motion_module import MotionModule

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .flow import Frames


@dataclass(frozen=True)
class Method:
    """A way to make a clip.

    Attributes:
        key: in files and figures.
        title: what the page calls it.
        name: the same inside a sentence.
        about: a sentence on it.
        is_control: it is no rival; its figures say what the others' mean.
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
    "One image again and again: the best smoothness there is, and no motion.",
    is_control=True,
)
INDEPENDENT = Method(
    "independent",
    "Independent frames",
    "independent frames",
    "A batch of images with the seeds that the clip has: what the model paints without anything for motion.",
    is_control=True,
)
ZERO = Method(
    "text2video-zero",
    "Text2Video-Zero",
    "Text2Video-Zero",
    "No training: the first frame's latents are shifted, and every frame looks at the first one.",
)
MODULE = Method("module", "Motion module", "the motion module", "AnimateDiff: the motion module in the model.")
METHODS = (FROZEN, INDEPENDENT, ZERO, MODULE)
RENDERED = (INDEPENDENT, ZERO, MODULE)  # a frozen frame is the first independent one


@dataclass(frozen=True)
class Sampling:
    """How every image is sampled.

    Attributes:
        size: width and height in pixels.
        frames: of a clip.
        sampler: a name of `standalone.pipeline.SAMPLERS`.
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
    """A clip, ``f h w 3``; frame i starts from the noise of ``seed + i``, whatever the method.

    Args:
        method: one of `RENDERED`.
        pipeline: a diffusers pipeline; it is left as it was.
        motion: what the method moves frames with; independent ones do without.

    Raises:
        AnimateDiffError: see `standalone.pipeline.animate`.
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
        size=how.size,
        steps=how.steps,
        cfg=how.cfg,
        sampler=how.sampler,
    )
    return np.stack([np.asarray(image.convert("RGB")) for image in images])


def stills(pipeline: Any, prompt: str, seeds: Sequence[int], how: Sampling) -> Frames:
    """Pictures without motion on the checkpoint's own noise levels, one for each seed: ``n h w 3``."""
    import torch

    former = pipeline.scheduler
    pipeline.scheduler = new_sampler(how.sampler, former, None)
    try:
        images = pipeline(
            prompt,
            negative_prompt=how.negative_prompt,
            num_images_per_prompt=len(seeds),
            # On the CPU, so that a seed is the same image on every machine.
            generator=[torch.Generator().manual_seed(seed) for seed in seeds],
            width=how.size[0],
            height=how.size[1],
            num_inference_steps=how.steps,
            guidance_scale=how.cfg,
        ).images
    finally:
        pipeline.scheduler = former
    return np.stack([np.asarray(image.convert("RGB")) for image in images])
