"""Sampling that goes on after a crash: the state of a diffusers pipeline after a step, and how to begin there.

A resumed run has the same bits as one that was not interrupted. So a state has everything that the steps before have
changed: latents, the scheduler's history, the frames' random generators, and how context windows number the steps.
What follows from the plan alone (noise, conditions, latents of images) is computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from motion_module import ClipError

Numbers = list[tuple[tuple[float, ...], int]]
_CONFIG = "_internal_dict"  # of a diffusers scheduler


@dataclass(frozen=True)
class SamplingState:
    """The sampling of a clip after a step. Its tensors are in main memory.

    Attributes:
        sampled: steps that are done, of all passes and runs.
        run: the run of the sampler, from 0, see `ClipPlan.runs`.
        step: steps of this run that are done.
        latents: after this step, ``f c h w``.
        first: latents of the first pass; None: it is under way.
        generators: states of the frames' random generators, ``f n``, uint8.
        scheduler: the attributes of diffusers' scheduler that the steps of this run have changed.
        numbers: the numbers of timesteps, by which context windows are planned.
    """

    sampled: int
    run: int
    step: int
    latents: Tensor
    first: Tensor | None
    generators: Tensor
    scheduler: Mapping[str, Any]
    numbers: Numbers


class StateKeeper(Protocol):
    """Where the states of a clip are kept."""

    @property
    def found(self) -> SamplingState | None:
        """The state from which the sampling goes on; None: it begins."""

    def is_due(self) -> bool:
        """Whether enough time has passed since the last state."""

    def keep(self, state: SamplingState) -> None:
        """Keep a state instead of the one before. It never raises an error about the place."""


class ResumableSampling:
    """The sampling of one clip, whose states are kept.

    Args:
        keeper: None: nothing is kept.

    Attributes:
        found: the state from which it goes on; None: it begins, or has gone on already.
        sampled: steps that are done.
    """

    def __init__(self, keeper: StateKeeper | None = None) -> None:
        self._keeper = keeper
        self.found = None if keeper is None else keeper.found
        self.sampled = 0 if self.found is None else self.found.sampled
        self._pipeline: Any = None
        self._generators: Sequence[torch.Generator] = ()
        self._first: Tensor | None = None
        self._run = 0
        self._planned: Mapping[str, Any] = {}

    @property
    def first_run(self) -> int:
        """The run of the sampler in which the pass begins."""
        return 0 if self.found is None else self.found.run

    def check(self, shapes: Sequence[tuple[int, ...]], steps: int) -> None:
        """Check that the state is one of this sampling: a file can come from anyone.

        Args:
            shapes: of the latents of each pass, ``f c h w``.
            steps: of the whole sampling.

        Raises:
            ClipError: it is not.
        """
        if self.found is None:
            return
        own = [tuple(latents.shape) for latents in (self.found.first, self.found.latents) if latents is not None]
        if own != list(shapes[: len(own)]) or self.found.sampled > steps:
            raise ClipError(
                "The state of the interrupted clip is damaged: it has latents of another size, or more steps than the "
                "clip. Delete it, and render the clip again.",
                code="AD-J09",
            )

    def begin_pass(self, pipeline: Any, generators: Sequence[torch.Generator], first: Tensor | None) -> None:
        """Begin a pass.

        Args:
            pipeline: with the scheduler of the pass.
            generators: of the frames.
            first: latents of the first pass; None: this is the first.
        """
        self._pipeline, self._generators, self._first = pipeline, generators, first

    def begin_run(self, number: int = 0) -> SamplingState | None:
        """Begin a run of the sampler; returns the state from which it goes on, or None.

        The generators are as in the state. Nothing may be drawn from them before the run.
        """
        found, self.found, self._run = self.found, None, number
        if found is not None:
            for generator, own in zip(self._generators, found.generators, strict=True):
                generator.set_state(own.clone())  # torch crashes on a view
        return found

    @contextmanager
    def from_state(self, state: SamplingState | None) -> Iterator[None]:
        """Let a call of the pipeline inside the block go on from a state; None: from the beginning of its run.

        The number of steps stays that of the run; the pipeline counts those that are left from 0.
        """
        pipeline, scheduler = self._pipeline, self._pipeline.scheduler
        plan = scheduler.set_timesteps
        timesteps: list[Any] = []

        def plan_the_rest(*args: Any, **kwargs: Any) -> None:
            plan(*args, **kwargs)
            self._planned = _attributes(scheduler)
            if state is not None:  # the pipeline loops over what it reads now
                timesteps.append(scheduler.timesteps)
                scheduler.timesteps = scheduler.timesteps[state.step :]

        def latents_of_state(*_args: Any, **_kwargs: Any) -> Tensor:
            assert state is not None
            scheduler.timesteps = timesteps[0]  # multistep samplers count in all of them
            for name, value in state.scheduler.items():
                setattr(scheduler, name, _mapped(value, lambda tensor: tensor.to(pipeline.device)))
            return state.latents.to(pipeline.device)

        scheduler.set_timesteps = plan_the_rest
        if state is not None:
            pipeline.prepare_latents = latents_of_state
        try:
            yield
        finally:
            scheduler.set_timesteps = plan
            if state is not None:
                del pipeline.prepare_latents

    def after_step(
        self, step: int, latents: Tensor, numbers: Numbers | None = None, *, can_resume: bool = True
    ) -> None:
        """Keep the state after a step, if it is time.

        Args:
            step: steps of the run that are done.
            numbers: as of `SamplingState`.
            can_resume: False: the next step needs what is not kept, such as features.
        """
        self.sampled += 1
        if self._keeper is None or not can_resume or not self._keeper.is_due():
            return
        scheduler = self._pipeline.scheduler
        changed = {
            name: _mapped(value, _copied)
            for name, value in _attributes(scheduler).items()
            if name not in self._planned or not _is_same(value, self._planned[name])
        }
        self._keeper.keep(
            SamplingState(
                sampled=self.sampled,
                run=self._run,
                step=step,
                latents=_copied(latents),
                first=None if self._first is None else _copied(self._first),
                generators=torch.stack([generator.get_state() for generator in self._generators]),
                scheduler=changed,
                numbers=numbers or [],
            )
        )


def _attributes(scheduler: Any) -> dict[str, Any]:
    """What a scheduler holds as numbers and tensors. Lists are copied, since steps change them in place."""
    return {
        name: list(value) if isinstance(value, list) else value
        for name, value in vars(scheduler).items()
        if name != _CONFIG and not callable(value)
    }


def _is_same(one: Any, other: Any) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_is_same, one, other))
    if isinstance(one, (bool, int, float, str)):
        return type(one) is type(other) and bool(one == other)
    return one is other


def _mapped(value: Any, change: Any) -> Any:
    if isinstance(value, list):
        return [_mapped(one, change) for one in value]
    return change(value) if isinstance(value, Tensor) else value


def _copied(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()
