"""The noise of clips in the WebUI: seeds of rows, noise that frames share, and FreeInit's loop around a sampler.

The WebUI has one generator per row. It draws the noise of the first step, of ancestral samplers and of the second pass
of hires fix from it; the Brownian trees of SDE samplers use the same seeds. So most kinds of noise are an order of
seeds. Only noise that frames share in part is mixed when it is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.patching import patch_next_call
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.request.plan import ClipPlan, FreeInitPlan
from lib_animatediff.sampling.frame_noise import shared_noise
from lib_animatediff.sampling.freeinit import fresh_noise, next_noise, steps_of

from .start.video import begins_from_images


def arrange_seeds(p: Processing, plan: ClipPlan) -> None:
    """Set the seed of each row to that of its frame's noise. Called in the hook ``process``, when all seeds are set.

    Each clip begins with its own first seed. With ``frame_seeds``, clip j uses them plus ``j * frames``.
    """
    if len(plan.rendered) < plan.frames:
        _seed_first_frames(p, plan)
        return
    frames, given = plan.frames, plan.noise.frame_seeds
    if given is not None:
        p.all_seeds = [given[row % frames] + row - row % frames for row in range(len(p.all_seeds))]
    rows = [
        first + source
        for first in range(0, len(p.all_seeds), frames)
        for source in plan.noise.sources(frames, p.all_seeds[first])
    ]
    if rows == list(range(len(rows))):
        return
    # New lists, since the client may own the present ones.
    p.all_seeds = [p.all_seeds[row] for row in rows]
    p.all_subseeds = [p.all_subseeds[row] for row in rows]


def _seed_first_frames(p: Processing, plan: ClipPlan) -> None:
    """Set the seed of each row, which is the first frame of its clip, to this frame's seed in the whole clip."""
    given = plan.noise.frame_seeds
    if given or (not isinstance(p.seed, list) and p.subseed_strength == 0):
        first = given[0] if given else p.all_seeds[0]
        p.all_seeds = [first + clip * plan.frames for clip in range(len(p.all_seeds))]
    elif not isinstance(p.subseed, list):  # a variation has one seed, and a subseed for each frame
        p.all_subseeds = [p.all_subseeds[0] + clip * plan.frames for clip in range(len(p.all_subseeds))]


def share_noise(p: Processing, noise: Tensor, plan: ClipPlan) -> None:
    """Make the frames of each clip share noise, if requested. Called in the hook before every sampling.

    Args:
        noise: initial noise, rows ``(b f) c h w``; changed in place, since the sampler already refers to it.
    """
    share, frames = plan.noise.share, len(plan.rendered)
    if share == 0:
        return
    noise.copy_(shared_by_clips(noise, frames, share))
    if not isinstance(p.rng, SharedRng):
        p.rng = SharedRng(p.rng, frames, share)
    # The sampler is used for p only, and for this pass or (img2img) request only.
    if not isinstance(p.sampler.create_noise_sampler, _SharedTrees):
        p.sampler.create_noise_sampler = _SharedTrees(p.sampler.create_noise_sampler, frames, share)


def shared_by_clips(noise: Tensor, frames: int, share: float) -> Tensor:
    """`shared_noise` for the rows ``(b f) c h w`` of whole clips; a new tensor."""
    return torch.cat([shared_noise(clip, None, share) for clip in torch.split(noise, frames)])


class SharedRng:
    """The WebUI's generator of a batch's noise, with shared noise mixed in. Other attributes are the generator's."""

    def __init__(self, rng: Any, frames: int, share: float) -> None:
        self._rng = rng
        self._frames = frames
        self._share = share

    def next(self) -> Tensor:
        """The next noise of all rows."""
        return shared_by_clips(self._rng.next(), self._frames, self._share)

    def first(self) -> Tensor:
        """The initial noise of all rows."""
        return shared_by_clips(self._rng.first(), self._frames, self._share)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)


class _SharedTrees:
    """Replaces a sampler's method for the noise of SDE samplers, which does not use the generator."""

    def __init__(self, create: Callable[..., Any], frames: int, share: float) -> None:
        self._create = create
        self._frames = frames
        self._share = share

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tree = self._create(*args, **kwargs)
        if tree is None:  # with a user option, the sampler itself creates one tree for the batch
            return None
        return lambda *sigmas: shared_by_clips(tree(*sigmas), self._frames, self._share)


def with_freeinit(p: Processing, plan: ClipPlan, last_alpha_cumprod: float) -> None:
    """Make FreeInit repeat the sampler's next run, if requested. Called in the hook before every sampling.

    The second pass of hires fix begins with a finished clip and is not repeated. The patch is removed from the sampler
    when its run begins.

    Args:
        last_alpha_cumprod: at the noisiest timestep of the clip's schedule.
    """
    freeinit = plan.freeinit
    if freeinit is None or freeinit.iterations < 2 or p.is_hr_pass:
        return
    loop = _FreeInit(freeinit, plan.noise.share, plan.frames, last_alpha_cumprod)
    if begins_from_images(p, plan):
        patch_next_call(p.sampler, "sample_img2img", loop.img2img)
    else:
        patch_next_call(p.sampler, "sample", loop.txt2img)


class _FreeInit:
    """Runs a sampler's method several times, each from noise that FreeInit computes from the previous result."""

    def __init__(self, freeinit: FreeInitPlan, share: float, frames: int, last_alpha_cumprod: float) -> None:
        self._freeinit = freeinit
        self._share = share
        self._frames = frames
        self._last_alpha_cumprod = last_alpha_cumprod

    def txt2img(
        self, sample: Callable[..., Tensor], p: Any, x: Tensor, *args: Any, steps: int | None = None, **kwargs: Any
    ) -> Tensor:
        """Replaces ``Sampler.sample``."""

        def run(noise: Tensor, steps: int | None) -> Tensor:
            return sample(p, noise, *args, steps=steps, **kwargs)

        return self._iterate(p, run, x, 0, steps, steps or p.steps)

    def img2img(
        self,
        sample: Callable[..., Tensor],
        p: Any,
        x: Tensor,
        noise: Tensor,
        *args: Any,
        steps: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Replaces ``Sampler.sample_img2img``, which counts steps differently if their number is passed."""
        _, last = a1111.img2img_steps(p, steps)

        def run(noise: Tensor, steps: int | None) -> Tensor:
            return sample(p, x, noise, *args, steps=steps, **kwargs)

        # The sampler adds noise to the given latents, so FreeInit's noise must not contain them.
        return self._iterate(p, run, noise, x, steps, last + 1)

    def _iterate(
        self,
        p: Any,
        run: Callable[[Tensor, int | None], Tensor],
        noise: Tensor,
        given: Tensor | int,
        asked_steps: int | None,
        steps: int,
    ) -> Tensor:
        count, coarse = self._freeinit.iterations, self._freeinit.coarse
        initial = noise.clone()  # a sampler may write into its arguments
        for iteration in range(count):
            iteration_steps = steps_of(iteration, count, steps, coarse)
            # With all steps, the schedule must be the one without FreeInit.
            latents = run(noise, asked_steps if iteration_steps == steps else iteration_steps)
            left = count - 1 - iteration
            if left and _is_stopped():
                break
            if left:
                noise = self._next(p, latents - given, initial, iteration + 1)
        return latents

    def _next(self, p: Any, latents: Tensor, initial: Tensor, iteration: int) -> Tensor:
        fresh = fresh_noise(initial.shape[1:], _noise_keys(p), iteration).to(initial)
        if self._share:
            fresh = shared_by_clips(fresh, self._frames, self._share)
        return next_noise(
            latents,
            initial,
            fresh * getattr(p, "initial_noise_multiplier", 1.0),  # of img2img
            frames=self._frames,
            last_alpha_cumprod=self._last_alpha_cumprod,
            **self._freeinit.next_noise_options(),
        )


def _noise_keys(p: Any) -> list[int | tuple[int, ...]]:
    """The seeds that determine each row's noise. In a variation, rows share a seed and differ in their subseeds."""
    if p.subseed_strength == 0:
        return list(p.seeds)
    return list(zip(p.seeds, p.subseeds, strict=True))


def _is_stopped() -> bool:
    state = a1111.state()
    return bool(state.interrupted or state.skipped or state.stopping_generation)
