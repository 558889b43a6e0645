"""The inverted noise of a source video in the WebUI's samplers, see `sampling.inversion`.

It is found by the UNet with the motion module and the units of ControlNet, in the same windows, at the noise levels of
the sampler's calls. It then takes the place of the noise that image to image adds, in both tabs.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.host_tensor import HostTensor
from lib_animatediff.engine.inject import Injection
from lib_animatediff.hosts.webui.clip.prompts import ClipPrompts
from lib_animatediff.hosts.webui.compat import a1111, controlnet, unet_calls
from lib_animatediff.hosts.webui.compat import denoiser as webui
from lib_animatediff.hosts.webui.compat.host_models import host_model
from lib_animatediff.hosts.webui.compat.progress import is_stopped
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.kept import latent_masks
from lib_animatediff.sampling.hold import strengths_of
from lib_animatediff.sampling.inversion import Level, inverted_noise, mix_noise
from lib_animatediff.video.fitting import STEP

from .held import has_parts
from .pinned import PinnedImages, rows_of, wrap_method


class InvertedVideo:
    """The noise of the source video of one request; nothing happens without a share of it."""

    def __init__(self, plan: ClipPlan, prompts: ClipPrompts, pinned: PinnedImages) -> None:
        self._plan = plan
        self._prompts = prompts
        self._pinned = pinned
        self._injection: Injection | None = None
        self._before_call: Callable[[int, int], None] = lambda _call, _calls: None
        self._found: dict[tuple[Level, ...], Tensor] = {}  # of one sampling, by its noise levels

    def begin(self, p: Any, injection: Injection | None, before_call: Callable[[int, int], None]) -> None:
        """Let the sampler begin from inverted noise. Called in the hook before every sampling.

        Call it before FreeInit repeats the sampler's run, so that each run begins from it.

        Args:
            before_call: called before each call of the UNet with its number, from 0, and how many there are.
        """
        video = self._plan.video
        if video is None or video.inversion == 0 or video.strongest == 0 or p.is_hr_pass:
            return
        self._injection, self._before_call, self._found = injection, before_call, {}
        wrap_method(p.sampler, "sample_img2img", self._sample)

    def _sample(
        self,
        sample: Callable[..., Tensor],
        p: Any,
        x: Tensor,
        noise: Tensor,
        conditioning: Any,
        *args: Any,
        steps: int | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Replaces ``Sampler.sample_img2img``, whose arguments follow ``sample``; rows are ``(b f) c h w``."""
        levels = webui.levels_of_calls(p, steps)
        key = tuple(levels)
        if levels and key not in self._found:
            try:
                self._found[key] = self._inverted(p, x, levels, steps, conditioning, kwargs.get("image_conditioning"))
            except a1111.InterruptedSampling:  # the sampler ends by itself
                return sample(p, x, noise, conditioning, *args, steps=steps, **kwargs)
        if levels:
            assert self._plan.video is not None
            mixed = mix_noise(noise, self._found[key], self._plan.video.inversion)
            noise = _added_to(x, mixed, levels[0][1], webui.signal_of_start(p, steps))
        return sample(p, x, noise, conditioning, *args, steps=steps, **kwargs)

    @torch.no_grad()
    def _inverted(
        self, p: Any, x: Tensor, levels: list[Level], steps: int | None, conditioning: Any, images: Any
    ) -> Tensor:
        places, conditions = a1111.first_conditions(conditioning)
        conditions = rows_of(self._prompts.blended_conditions(conditions), places)
        timesteps, injection, coming = [timestep for timestep, _ in levels], self._injection, count()

        def predict(noised: Tensor, timestep: float) -> Tensor:
            if is_stopped():
                raise a1111.InterruptedSampling
            self._before_call(next(coming), len(levels))
            step = timesteps.index(timestep)
            self._pinned.reach(step / len(levels))
            controlnet.reach(p, step, len(levels))
            if injection is not None:
                injection.drop_features()
                injection.step, injection.timestep, injection.progress = step, timestep, step / len(levels)
            return unet_calls.predicted(p, noised, timestep, conditions, images)

        try:
            return inverted_noise(
                x,
                predict,
                levels,
                self._begins(p, x, steps, len(levels)),
                predicts_velocity=host_model(p.sd_model).predicts_velocity,
            )
        finally:
            if injection is not None:
                injection.drop_features()
                injection.step = injection.timestep = None

    def _begins(self, p: Any, x: Tensor, steps: int | None, calls: int) -> Tensor | None:
        """The call at which each part of the frames begins to change; None: the first one."""
        video, frames = self._plan.video, len(self._plan.rendered)
        assert video is not None
        if not has_parts(video):
            return None
        size = x.shape[3] * STEP, x.shape[2] * STEP
        strengths = strengths_of(video.strengths(frames), latent_masks(video, size, frames))
        begins = webui.first_calls(p, strengths, steps).clamp(min=0)
        begins = torch.where(strengths > 0, begins, calls)
        return HostTensor(begins.repeat(len(x) // frames, 1, 1, 1)).on(x.device)


def _added_to(x: Tensor, noise: Tensor, signal: float, start: float) -> Tensor:
    """What the sampler has to add at its own level, so that latents have this noise at the level of its first call.

    Its samplers by timesteps add noise for one step more than they take away.

    Args:
        signal: share of the image in the variance at the first call.
        start: the same where the sampler adds noise.
    """
    if signal == start:
        return noise
    noised = signal**0.5 * x.float() + (1 - signal) ** 0.5 * noise.float()
    added: Tensor = (noised - start**0.5 * x.float()) / (1 - start) ** 0.5
    return added.to(noise.dtype)
