"""The inverted noise of a source video on a diffusers pipeline, see `sampling.inversion`.

It is found by the UNet with all its components, in the same windows, at the steps that are sampled afterwards and with
the clip's prompt. So DDIM sampling at a CFG scale of 1 leads back to the video.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.engine.host_tensor import HostTensor
from lib_animatediff.hosts.diffusers.pipeline import timesteps_of
from lib_animatediff.sampling.hold import NoiseLevels, first_steps
from lib_animatediff.sampling.inversion import inverted_noise, mix_noise
from lib_animatediff.sampling.pinned_frames import V_PREDICTION

from .video import StartLatents


class InvertedVideo:
    """The noise of the frames of one clip.

    Args:
        start: the frames.
        kwargs: the pipeline's keyword arguments for prompts, as it is called with.
        before_call: called before each call of the UNet with the step, counted from the first one that is sampled, the
            number of those steps and the timestep; None, after the last call.
    """

    def __init__(
        self,
        pipeline: Any,
        start: StartLatents,
        kwargs: Mapping[str, Any],
        before_call: Callable[[tuple[int, int, float] | None], None],
    ) -> None:
        self._pipeline = pipeline
        self._start = start
        self._kwargs = kwargs
        self._before_call = before_call
        self._found: dict[int, Tensor] = {}  # by the steps of a run of FreeInit

    def in_noise(self, noise: Tensor, steps: int) -> Tensor:
        """Unit noise ``f c h w`` with the share of the video's noise, for a run with so many steps in the schedule."""
        share = self._start.video.inversion
        if share == 0:
            return noise
        if steps not in self._found:
            self._found[steps] = self._inverted(steps)
        return mix_noise(noise, self._found[steps], share)

    @torch.no_grad()
    def _inverted(self, steps: int) -> Tensor:
        pipeline, start = self._pipeline, self._start
        done = start.video.skipped(steps)
        timesteps = timesteps_of(pipeline.scheduler, steps)[done:]
        signals = NoiseLevels(pipeline.scheduler.alphas_cumprod.cpu()).signal_at(torch.tensor(timesteps))
        conditions, _ = pipeline.encode_prompt(
            self._kwargs.get("prompt"),
            pipeline.device,
            self._kwargs.get("num_images_per_prompt", 1),
            False,
            prompt_embeds=self._kwargs.get("prompt_embeds"),
        )

        def predict(noised: Tensor, timestep: float) -> Tensor:
            self._before_call((timesteps.index(timestep), len(timesteps), timestep))
            output = pipeline.unet(noised, timestep, encoder_hidden_states=conditions, return_dict=False)
            return output[0]  # type: ignore[no-any-return]

        begins = first_steps(start.strengths, steps, start.video.least_steps) - done
        try:
            return inverted_noise(
                start.latents,
                predict,
                list(zip(timesteps, signals.tolist(), strict=True)),
                HostTensor(begins).on(start.latents.device),
                predicts_velocity=pipeline.scheduler.config.prediction_type == V_PREDICTION,
            )
        finally:
            self._before_call(None)
