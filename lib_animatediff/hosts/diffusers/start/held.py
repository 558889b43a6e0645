"""Parts of a source video that are held on a diffusers pipeline: lower strengths, and what a mask keeps.

A hook after the UNet replaces what it predicts for these parts, see `sampling.hold`. So every sampler works.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from lib_animatediff.engine.call import count_clips
from lib_animatediff.engine.host_tensor import HostTensor
from lib_animatediff.sampling.hold import NoiseLevels, first_steps, prediction_of
from lib_animatediff.sampling.pinned_frames import V_PREDICTION

from .video import StartLatents


class HeldParts:
    """The hook of a UNet that holds parts of the frames.

    Args:
        start: what the clip starts from.
        sampler: a diffusers scheduler with the noise levels of the sampling.

    Attributes:
        step: the step under way, counted in the whole schedule; None: nothing is held.
    """

    def __init__(self, start: StartLatents, sampler: Any) -> None:
        self.step: int | None = 0
        self._strengths = start.strengths
        self._least = start.video.least_steps
        self._image = start.latents
        self.begin_run(1)
        self._levels = NoiseLevels(sampler.alphas_cumprod)
        self._predicts_velocity = sampler.config.prediction_type == V_PREDICTION

    def begin_run(self, steps: int) -> None:
        """Find the first step of each part in a run with so many steps in the whole schedule."""
        first = first_steps(self._strengths, steps, self._least)
        self._steps = steps
        self._last = int(first.max())
        self._first = HostTensor(first)

    @contextmanager
    def attached(self, unet: nn.Module) -> Iterator[None]:
        """Hold the parts in all calls of the UNet inside the block."""
        handle = unet.register_forward_hook(self.after)
        try:
            yield
        finally:
            handle.remove()

    def after(self, _unet: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """Replace what the UNet predicts for parts that are held, so that the sampler goes to the image."""
        if self.step is None or self.step >= self._last:
            return None
        predicted: Tensor = output[0]
        clips = count_clips(len(predicted), len(self._image))
        given, timestep = args[:2]  # diffusers' pipeline passes both by position
        noised = given[:, : self._image.shape[1]].float()  # inpainting checkpoints have further channels
        timesteps = torch.as_tensor(timestep, device=noised.device).expand(len(noised))
        wanted = prediction_of(
            _of_clips(self._image.float(), clips),
            noised,
            self._levels.signal_at(timesteps)[:, None, None, None],
            predicts_velocity=self._predicts_velocity,
        )
        is_free = _of_clips(self._first.on(noised.device) <= self.step, clips)
        return (torch.where(is_free, predicted, wanted.to(predicted.dtype)), *output[1:])

    def in_result(self, latents: Tensor) -> Tensor:
        """Sampled latents ``f c h w``; parts that are never free are the image's, bit for bit."""
        if self._last < self._steps:
            return latents
        return torch.where(self._first.on(latents.device) < self._steps, latents, self._image.to(latents))


def _of_clips(rows: Tensor, clips: int) -> Tensor:
    """Rows ``f ...`` for ``(k b f) ...``."""
    return rows.repeat(clips, 1, 1, 1)
