"""The noise of clips in the WebUI: seeds of rows, noise that frames share, and FreeInit's loop around a sampler.

The WebUI has one generator for each row's seed and draws from it what the first step, ancestral samplers and the second
pass of hires fix need; its Brownian trees (the SDE samplers) grow from the same seeds. So most kinds of noise are an
order of seeds. Only what frames share in part is mixed where it is drawn.
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


def arrange_seeds(p: Processing, plan: ClipPlan) -> None:
    """Give each row the seed whose noise its frame takes: for the hook ``process``, when all seeds are laid out.

    Clip by clip, each beginning with its own first seed. With ``frame_seeds``, clip j has them plus ``j * frames``.
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
    # New lists: the present ones may be what the client gave.
    p.all_seeds = [p.all_seeds[row] for row in rows]
    p.all_subseeds = [p.all_subseeds[row] for row in rows]


def _seed_first_frames(p: Processing, plan: ClipPlan) -> None:
    """Give each row, the first frame of its clip, the seed that this frame has in the whole clip."""
    given = plan.noise.frame_seeds
    if given or (not isinstance(p.seed, list) and p.subseed_strength == 0):
        first = given[0] if given else p.all_seeds[0]
        p.all_seeds = [first + clip * plan.frames for clip in range(len(p.all_seeds))]
    elif not isinstance(p.subseed, list):  # a variation has one seed, and a subseed for each frame
        p.all_subseeds = [p.all_subseeds[0] + clip * plan.frames for clip in range(len(p.all_subseeds))]


def share_noise(p: Processing, noise: Tensor, plan: ClipPlan) -> None:
    """Let the frames of each clip share noise, where that is asked for: for the hook before every sampling.

    Args:
        noise: what the sampler begins with, rows ``(b f) c h w``; changed in place, since the sampler has it already.
    """
    share, frames = plan.noise.share, len(plan.rendered)
    if share == 0:
        return
    noise.copy_(shared_by_clips(noise, frames, share))
    if not isinstance(p.rng, SharedRng):
        p.rng = SharedRng(p.rng, frames, share)
    # The sampler serves p alone, and for this pass or (img2img) request only.
    if not isinstance(p.sampler.create_noise_sampler, _SharedTrees):
        p.sampler.create_noise_sampler = _SharedTrees(p.sampler.create_noise_sampler, frames, share)


def shared_by_clips(noise: Tensor, frames: int, share: float) -> Tensor:
    """`shared_noise` for the rows ``(b f) c h w`` of whole clips; a new tensor."""
    return torch.cat([shared_noise(clip, None, share) for clip in torch.split(noise, frames)])


class SharedRng:
    """The WebUI's generator of a batch's noise, with what frames share mixed in; all else is the generator's own."""

    def __init__(self, rng: Any, frames: int, share: float) -> None:
        self._rng = rng
        self._frames = frames
        self._share = share

    def next(self) -> Tensor:
        """The next noise of all rows."""
        return shared_by_clips(self._rng.next(), self._frames, self._share)

    def first(self) -> Tensor:
        """The noise of all rows that sampling begins with."""
        return shared_by_clips(self._rng.first(), self._frames, self._share)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._rng, name)


class _SharedTrees:
    """In place of a sampler's method that makes the noise of SDE samplers, which takes it from no generator."""

    def __init__(self, create: Callable[..., Any], frames: int, share: float) -> None:
        self._create = create
        self._frames = frames
        self._share = share

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        tree = self._create(*args, **kwargs)
        if tree is None:  # an option of the user's: one tree for the batch, which the sampler makes itself
            return None
        return lambda *sigmas: shared_by_clips(tree(*sigmas), self._frames, self._share)


def with_freeinit(p: Processing, plan: ClipPlan, last_alpha_cumprod: float) -> None:
    """Have the sampler's next run repeated by FreeInit, if asked for: for the hook before every sampling.

    The second pass of hires fix begins with a finished clip, and is left alone. The loop comes off the sampler when
    its run begins.

    Args:
        last_alpha_cumprod: of the table that the clip is sampled on.
    """
    freeinit = plan.freeinit
    if freeinit is None or freeinit.iterations < 2 or p.is_hr_pass:
        return
    if p.iteration == 0:
        a1111.state().job_count += (freeinit.iterations - 1) * p.n_iter
    loop = _FreeInit(freeinit, plan.noise.share, plan.frames, last_alpha_cumprod)
    is_img2img = getattr(p, "init_latent", None) is not None
    if is_img2img:
        patch_next_call(p.sampler, "sample_img2img", loop.img2img)
    else:
        patch_next_call(p.sampler, "sample", loop.txt2img)


class _FreeInit:
    """Runs a sampler's method several times, each from the noise that FreeInit makes of the former result."""

    def __init__(self, freeinit: FreeInitPlan, share: float, frames: int, last_alpha_cumprod: float) -> None:
        self._freeinit = freeinit
        self._share = share
        self._frames = frames
        self._last_alpha_cumprod = last_alpha_cumprod

    def txt2img(
        self, sample: Callable[..., Tensor], p: Any, x: Tensor, *args: Any, steps: int | None = None, **kwargs: Any
    ) -> Tensor:
        """In place of ``Sampler.sample``."""

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
        """In place of ``Sampler.sample_img2img``, which counts steps differently where it is given their number."""
        _, last = a1111.img2img_steps(p, steps)

        def run(noise: Tensor, steps: int | None) -> Tensor:
            return sample(p, x, noise, *args, steps=steps, **kwargs)

        # The sampler lays noise over the given latents, so what they hold is none of the noise's business.
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
        initial = noise.clone()  # a sampler may write into what it gets
        for iteration in range(count):
            a1111.state().textinfo = f"AnimateDiff: FreeInit, {iteration + 1} of {count}"
            wanted = steps_of(iteration, count, steps, coarse)
            # All steps are what the sampler does by itself, on the very schedule that it has without FreeInit.
            latents = run(noise, asked_steps if wanted == steps else wanted)
            left = count - 1 - iteration
            if left and _is_stopped():
                a1111.state().job_no += left
                break
            if left:
                a1111.state().nextjob()
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
    """What each row's noise depends on. With a variation, rows have one seed and differ in their subseeds."""
    if p.subseed_strength == 0:
        return list(p.seeds)
    return list(zip(p.seeds, p.subseeds, strict=True))


def _is_stopped() -> bool:
    state = a1111.state()
    return bool(state.interrupted or state.skipped or state.stopping_generation)
