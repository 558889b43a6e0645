"""The noise of a clip's frames, and FreeInit's loop around a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.frame_noise import shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise

Run = Callable[[Tensor | None, int], Any]
"""Runs the sampler with the initial noise and the number of steps, and returns the latents."""


def unit_noise(plan: ClipPlan, generators: Sequence[torch.Generator], like: Tensor) -> Tensor:
    """Unit noise in the shape of ``like``, ``f c h w``.

    It is drawn from the frames' generators in the way of the pipeline, so that their later numbers are the same.
    """
    own = [torch.randn(like.shape[1:], generator=generator, dtype=like.dtype) for generator in generators]
    return _shared(plan, torch.stack(own).to(like.device))


def first_noise(plan: ClipPlan, generators: Sequence[torch.Generator], like: Tensor) -> Tensor | None:
    """`unit_noise`; None if the pipeline itself draws the same noise."""
    if plan.noise.share == 0 and plan.freeinit is None:
        return None
    return unit_noise(plan, generators, like)


def sample_runs(plan: ClipPlan, run: Run, noise: Tensor | None, last_alpha_cumprod: float) -> Any:
    """Run the sampler once, or once per FreeInit iteration, which computes its noise from the previous result.

    Args:
        noise: initial noise; None only for a single run.
        last_alpha_cumprod: at the noisiest timestep of the schedule.
    """
    initial = noise
    for number, steps in enumerate(plan.runs[:-1], 1):
        assert initial is not None
        assert plan.freeinit is not None
        latents = run(noise, steps)
        fresh = _shared(plan, fresh_noise(initial.shape[1:], list(plan.seeds), number).to(initial))
        noise = next_noise(
            latents,
            initial,
            fresh,
            frames=len(initial),
            last_alpha_cumprod=last_alpha_cumprod,
            **plan.freeinit.next_noise_options(),
        )
    return run(noise, plan.runs[-1])


def _shared(plan: ClipPlan, noise: Tensor) -> Tensor:
    return shared_noise(noise, None, plan.noise.share) if plan.noise.share else noise
