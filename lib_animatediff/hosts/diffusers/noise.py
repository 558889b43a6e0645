"""The noise of a clip's frames, initial and of each step, and FreeInit's loop around a diffusers pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.sampling.frame_noise import shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise

Run = Callable[[Tensor | None, int, int], Any]
"""Runs the sampler with the initial noise, the number of steps and the run's own number; returns the latents."""


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


def share_step_noise(scheduler: Any, generators: Sequence[torch.Generator], share: float) -> None:
    """Make the frames share the noise that a diffusers scheduler adds at each step, as they share their initial noise.

    LCM and ancestral samplers draw it from the frames' generators, row by row. With other kinds of noise than shared,
    the seeds of the generators determine it, so that nothing needs to change.

    Args:
        scheduler: of one clip; its ``step`` is replaced.
        generators: of the frames.
        share: 0 to 1, as for `shared_noise`.
    """
    if share == 0:
        return
    step = scheduler.step

    @wraps(step)  # the pipeline looks for the arguments of the step
    def shared_step(*args: Any, **kwargs: Any) -> Any:
        with _SharedDraws(generators, share):
            return step(*args, **kwargs)

    scheduler.step = shared_step


class _SharedDraws(TorchFunctionMode):
    """Mixes what the generator of frame 0 draws into what those of the other frames draw, in this thread only."""

    def __init__(self, generators: Sequence[torch.Generator], share: float) -> None:
        super().__init__()
        self._frames = {id(generator): frame for frame, generator in enumerate(generators)}
        self._share = share
        self._first: Tensor | None = None

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        drawn = func(*args, **kwargs)
        frame = self._frames.get(id(kwargs.get("generator"))) if func is torch.randn else None
        if frame is None:
            return drawn
        if frame == 0:
            self._first = drawn
            return drawn
        assert self._first is not None  # diffusers draws in the order of the rows
        return shared_noise(drawn, self._first, self._share)


def sample_runs(plan: ClipPlan, run: Run, noise: Tensor | None, last_alpha_cumprod: float, first: int = 0) -> Any:
    """Run the sampler once, or once per FreeInit iteration, which computes its noise from the previous result.

    Args:
        noise: initial noise; None only for a single run.
        last_alpha_cumprod: at the noisiest timestep of the schedule.
        first: number of the run that is the first here; the sampler goes on in it, whatever its noise is.
    """
    initial, last = noise, len(plan.runs) - 1
    for number in range(first, last):
        assert initial is not None
        assert plan.freeinit is not None
        latents = run(noise, plan.runs[number], number)
        fresh = _shared(plan, fresh_noise(initial.shape[1:], list(plan.seeds), number + 1).to(initial))
        noise = next_noise(
            latents,
            initial,
            fresh,
            frames=len(initial),
            last_alpha_cumprod=last_alpha_cumprod,
            **plan.freeinit.next_noise_options(),
        )
    return run(noise, plan.runs[last], last)


def _shared(plan: ClipPlan, noise: Tensor) -> Tensor:
    return shared_noise(noise, None, plan.noise.share) if plan.noise.share else noise
