"""Samplers that skip their first steps, because the latents are not noise alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def begin_at(sampler: Any, step: int) -> Iterator[None]:
    """Let a diffusers scheduler skip its first steps, as if the others were all.

    Multistep samplers begin a new history. Inside the block, ``set_timesteps`` gives the other steps only.
    """
    plan = sampler.set_timesteps

    def plan_the_rest(*args: Any, **kwargs: Any) -> None:
        plan(*args, **kwargs)
        sampler.timesteps = sampler.timesteps[step:]
        if "original_inference_steps" in sampler.config:  # LCM and TCD know the last step, without noise, by its number
            sampler.num_inference_steps = len(sampler.timesteps)
        if hasattr(sampler, "sigmas"):
            sampler.sigmas = sampler.sigmas[step:]

    sampler.set_timesteps = plan_the_rest
    try:
        yield
    finally:
        sampler.set_timesteps = plan
