"""What a person directs, for a diffusers pipeline: prompts of frames, their noise, FreeInit's rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.prompts.interpolate import blend_rows
from lib_animatediff.prompts.travel import read_travel
from lib_animatediff.request.settings import (
    ClipSettings,
    clip_frames,
    context_length,
    frame_seeds,
    freeinit_rounds,
    overlap,
    travels_in_loop,
)
from lib_animatediff.sampling.frame_noise import SHARED, noise_sources, shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise


def seeds_of(settings: ClipSettings, seed: int, frames: int) -> list[int]:
    """The seed of each frame's noise."""
    given = frame_seeds(settings)
    own = given[:frames] if given else [seed + frame for frame in range(frames)]
    if frames <= context_length(settings):
        return [own[source] for source in noise_sources(settings.noise, frames, frames, 0, own[0])]
    sources = noise_sources(settings.noise, frames, context_length(settings), overlap(settings), own[0])
    return [own[source] for source in sources]


def prompts_of(pipeline: Any, prompt: str, negative: str, frames: int, settings: ClipSettings) -> dict[str, Any]:
    """What a pipeline is told of the prompts: texts, or each frame's condition where one of them travels.

    Raises:
        ClipError: a line of a prompt is wrong.
    """
    whole = clip_frames(settings) if settings.poster else frames
    texts = {"prompt": prompt, "negative_prompt": negative}
    names = {"prompt": "prompt", "negative_prompt": "negative prompt"}
    travels = {field: read_travel(text, whole, names[field]) for field, text in texts.items()}
    if not any(travels.values()):
        return {**texts, "num_images_per_prompt": frames}
    how = (settings.travel_interpolation, settings.travel_easing, settings.travel_hold, travels_in_loop(settings))
    told: dict[str, Any] = {}
    for field, travel in travels.items():
        rows = ([texts[field]] * whole if travel is None else travel.prompts())[:frames]
        condition = _encoded(pipeline, rows)
        if travel is not None and frames == whole:
            condition = blend_rows(condition, travel.blends(*how), settings.travel_interpolation)
        told[f"{field}_embeds"] = condition
    return told


def _encoded(pipeline: Any, rows: Sequence[str]) -> Tensor:
    distinct = list(dict.fromkeys(rows))
    condition, _ = pipeline.encode_prompt(distinct, pipeline.device, 1, False)
    return condition[[distinct.index(row) for row in rows]]  # type: ignore[no-any-return]


def first_noise(settings: ClipSettings, generators: Sequence[torch.Generator], like: Tensor) -> Tensor | None:
    """`unit_noise`, where it is not what the pipeline itself would draw."""
    if settings.noise != SHARED and len(freeinit_rounds(settings, 1)) == 1:
        return None
    return unit_noise(settings, generators, like)


def unit_noise(settings: ClipSettings, generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Unit noise in the shape of ``like``, ``f c h w``.

    Drawn from the frames' generators as the pipeline does, so that what they give later stays the same.
    """
    own = [torch.randn(like.shape[1:], generator=generator, dtype=like.dtype) for generator in generators]
    noise = torch.stack(own).to(like.device)
    return shared_noise(noise, None, settings.noise_share) if settings.noise == SHARED else noise


def run_rounds(
    run: Callable[[Tensor | None, int, bool], Any],
    settings: ClipSettings,
    seeds: Sequence[int],
    noise: Tensor | None,
    *,
    steps: int,
    last_alpha_cumprod: float,
) -> Any:
    """Run a pipeline once, or as often as FreeInit wants, each from noise that the result before gives.

    Args:
        run: given the initial noise, the number of steps, and whether it is the last run; gives latents before it.
    """
    each = freeinit_rounds(settings, steps)
    initial = noise
    for number, count in enumerate(each[:-1], 1):
        assert initial is not None
        latents = run(noise, count, False)
        fresh = fresh_noise(initial.shape[1:], list(seeds), number).to(initial)
        if settings.noise == SHARED:
            fresh = shared_noise(fresh, None, settings.noise_share)
        noise = next_noise(
            latents,
            initial,
            fresh,
            frames=len(initial),
            last_alpha_cumprod=last_alpha_cumprod,
            kind=settings.freeinit_filter,
            spatial=settings.freeinit_ds,
            temporal=settings.freeinit_dt,
        )
    return run(noise, each[-1], True)
