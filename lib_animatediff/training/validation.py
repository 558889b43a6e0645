"""Judge what is trained: the error at each timestep on clips held out, and clips of some prompts.

The mean loss hardly moves and says little; both of these tell when motion has been learned.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .clips import BrokenClipError, Cut
from .latents import latents_of
from .loss import Group, text_once_per_clip
from .rng import Draws

if TYPE_CHECKING:
    from PIL.Image import Image

    from .loop import Loop

TIMESTEPS = (100, 300, 500, 700, 900, 980)
SAMPLING_STEPS = 25  # as the official training validates
CFG = 8.0
FPS = 8.0


@torch.no_grad()
def timestep_errors(loop: Loop) -> dict[str, float]:
    """Mean squared error of the noise, and of the clean latents it stands for, at some timesteps.

    The second is to be read beside ``data_variance``, the error of knowing nothing. Always the same clips, cuts and
    noise. Empty without clips held out.
    """
    groups = [group for index in loop.held_out if (group := _held_out(loop, index)) is not None]
    if not groups:
        return {}
    variances = [group["latents"].var() for group in groups]
    values = {"validation/data_variance": float(torch.stack(variances).mean())}
    for timestep in TIMESTEPS:
        error = sum(_error(loop, group, timestep) for group in groups) / len(groups)
        signal = float(loop.alphas[timestep])
        values[f"validation/noise_error/{timestep}"] = error
        values[f"validation/clean_error/{timestep}"] = error * (1 - signal) / signal
    return values


def _held_out(loop: Loop, index: int) -> Group | None:
    """A clip held out with its noise and text, all but the timestep."""
    draws = Draws(loop.settings.seed, -1 - index)  # a number that no training example has
    cut = Cut(loop.settings.clip_frames, loop.settings.stride, draws.uniform("start"))
    try:
        clip = loop.source.read(index, cut)
    except BrokenClipError as error:
        loop.skip(loop.source.name(index), str(error))
        return None
    latents = latents_of(clip, loop.base.vae, draws, loop.accelerator.device)
    noise = draws.normal("noise", tuple(latents.shape)).to(latents.device)
    return {"latents": latents[None], "noise": noise[None], "text": loop.base.texts([clip.caption]).to(latents.device)}


def _error(loop: Loop, group: Group, timestep: int) -> float:
    frames = group["latents"].shape[1]
    objective: Any = loop.accelerator.unwrap_model(loop.objective)
    with (
        loop.target.inside(loop.base.unet, frames),
        text_once_per_clip(loop.base.unet, frames),
        loop.accelerator.autocast(),
    ):
        timesteps = torch.tensor([timestep], device=group["latents"].device)
        return float(objective.errors({**group, "timesteps": timesteps}))


def write_samples(loop: Loop, step: int) -> list[tuple[Path, tuple[int, int]]]:
    """Make a clip of each validation prompt (an image for an adapter); the files and their sizes in pixels."""
    written = []
    for number, prompt in enumerate(loop.settings.validation_prompts):
        with loop.target.frozen():
            images = _clip(loop, prompt) if loop.target.motion else _image(loop, prompt)
        stem = loop.folder / "samples" / f"step-{step:08d}-{number}"
        written.append((_write(stem, images, prompt), images[0].size))
    return written


def _clip(loop: Loop, prompt: str) -> list[Image]:
    from lib_animatediff.hosts.diffusers.pipeline import animate

    assert loop.target.motion is not None
    side = loop.settings.size
    return animate(
        loop.base.pipeline,
        loop.target.motion,
        prompt=prompt,
        seed=loop.settings.seed,
        frames=loop.settings.frames,
        size=(side, side),
        steps=SAMPLING_STEPS,
        cfg=CFG,
    )


def _image(loop: Loop, prompt: str) -> list[Image]:
    side = loop.settings.size
    result = loop.base.pipeline(
        prompt,
        width=side,
        height=side,
        num_inference_steps=SAMPLING_STEPS,
        guidance_scale=CFG,
        generator=torch.Generator().manual_seed(loop.settings.seed),
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
