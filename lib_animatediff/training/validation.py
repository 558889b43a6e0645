"""Validation: prediction error at several timesteps on held-out clips, and clips rendered from prompts.

The training loss hardly changes and is hard to interpret; these two show when motion has been learned.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .base import Base
from .clips import BrokenClipError, Cut, Source
from .latents import latents_of
from .loss import Group, Objective, text_once_per_clip
from .rng import Draws
from .settings import TrainingSettings
from .trainables import Target

if TYPE_CHECKING:
    from PIL.Image import Image

    from motion_module import MotionModule

TIMESTEPS = (100, 300, 500, 700, 900, 980)
SAMPLING_STEPS = 25  # as in the official validation
CFG = 8.0  # likewise
DISTILLED_STEPS = 4
FPS = 8.0


@torch.no_grad()
def held_out_groups(
    base: Base,
    source: Source,
    items: Iterable[int],
    settings: TrainingSettings,
    objective: Objective,
    device: torch.device,
    skip: Callable[[str, str], None],
) -> list[Group]:
    """Held-out clips with noise and text, but without timesteps. Cuts and noise are the same at each call.

    Args:
        base: encodes frames and captions.
        source: the clips.
        items: indices of the held-out clips.
        settings: how clips are cut.
        objective: tells what else its loss needs.
        device: device of the result.
        skip: called with name and error of each clip that cannot be read.
    """
    groups = []
    for index in items:
        draws = Draws(settings.seed, -1 - index)  # negative numbers belong to no training example
        cut = Cut(settings.clip_frames, settings.stride, draws.uniform("start"))
        try:
            clip = source.read(index, cut)
        except BrokenClipError as error:
            skip(source.name(index), error.message)
            continue
        latents = latents_of(clip, base.vae, draws, device)
        noise = draws.normal("noise", tuple(latents.shape)).to(latents.device)
        text = base.texts([clip.caption]).to(latents.device)
        group = {"latents": latents[None], "noise": noise[None], "text": text}
        given = objective.given(clip, latents, draws)
        groups.append(group | {name: tensor[None].to(latents.device) for name, tensor in given.items()})
    return groups


@torch.no_grad()
def timestep_errors(
    groups: Sequence[Group],
    objective: Objective,
    target: Target,
    unet: nn.Module,
    autocast: Callable[[], AbstractContextManager[Any]],
) -> dict[str, float]:
    """Mean squared error of the noise, and of the clean latents that follow from it, at several timesteps.

    Compare the latter with ``data_variance``, the error of predicting the mean. Empty without groups.
    """
    if not groups:
        return {}

    def error_of(group: Group, timestep: int) -> float:
        frames = group["latents"].shape[1]
        with target.inside(unet, frames), text_once_per_clip(objective, frames), autocast():
            timesteps = torch.tensor([timestep], device=group["latents"].device)
            return float(objective.errors({**group, "timesteps": timesteps}))

    variances = [group["latents"].var() for group in groups]
    values = {"validation/data_variance": float(torch.stack(variances).mean())}
    for timestep in TIMESTEPS:
        error = sum(error_of(group, timestep) for group in groups) / len(groups)
        signal = float(objective.alphas[timestep])
        values[f"validation/noise_error/{timestep}"] = error
        values[f"validation/clean_error/{timestep}"] = error * (1 - signal) / signal
    return values


def write_samples(
    pipeline: Any, target: Target, settings: TrainingSettings, folder: Path, step: int
) -> list[tuple[Path, tuple[int, int]]]:
    """Render each validation prompt as a clip, or as an image for an adapter; returns files and sizes in pixels."""
    written = []
    for number, prompt in enumerate(settings.validation_prompts):
        with target.frozen():
            images = (
                _clip(pipeline, target.motion, prompt, settings)
                if target.motion
                else _image(pipeline, prompt, settings)
            )
        stem = folder / "samples" / f"step-{step:08d}-{number}"
        written.append((_write(stem, images, prompt), images[0].size))
    return written


def _clip(pipeline: Any, motion: MotionModule, prompt: str, settings: TrainingSettings) -> list[Image]:
    from lib_animatediff.hosts.diffusers.animate import animate
    from lib_animatediff.request.settings import parse_settings

    distilled = {"sampler": "lcm", "steps": DISTILLED_STEPS, "cfg": 1.0}
    return animate(
        pipeline,
        motion,
        prompt=prompt,
        seed=settings.seed,
        frames=settings.frames,
        settings=parse_settings({"context_length": settings.frames}),  # in one piece, as it is trained
        size=(settings.size, settings.size),
        **(distilled if settings.distill_cfg else {"steps": SAMPLING_STEPS, "cfg": CFG}),
    )


def _image(pipeline: Any, prompt: str, settings: TrainingSettings) -> list[Image]:
    result = pipeline(
        prompt,
        width=settings.size,
        height=settings.size,
        num_inference_steps=SAMPLING_STEPS,
        guidance_scale=CFG,
        generator=torch.Generator().manual_seed(settings.seed),
    )
    return list(result.images)


def _write(stem: Path, images: list[Image], prompt: str) -> Path:
    if len(images) == 1:
        path = stem.with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        images[0].save(path)
        return path
    from lib_animatediff.video import write_gif

    path = stem.with_suffix(".gif")
    write_gif(path, images, fps=FPS, comment=prompt)
    return path
