"""Turns CFG on and off between the steps of a diffusers pipeline.

The pipeline reads its scale and its conditions at each step, so that a callback can change both, as in diffusers' guide
on dynamic CFG.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

from lib_animatediff.sampling.guidance import GuidanceInterval

_OFF = 1.0  # the pipeline guides above it


class GuidanceSwitch:
    """The guidance of one run of a pipeline.

    Args:
        interval: the steps with guidance.
        kwargs: the pipeline's keyword arguments for prompts and CFG.
        steps: of the whole sampling.
        done: steps of it that are not part of this run.
        on_switch: called when guidance begins or ends.

    Attributes:
        kwargs: the keyword arguments with which the run begins.
    """

    def __init__(
        self,
        pipeline: Any,
        interval: GuidanceInterval,
        kwargs: Mapping[str, Any],
        steps: int,
        *,
        done: int = 0,
        on_switch: Callable[[], None] = lambda: None,
    ) -> None:
        self.kwargs = dict(kwargs)
        self._interval = interval
        self._steps = steps
        self._done = done
        self._on_switch = on_switch
        self._cfg = float(kwargs["guidance_scale"])
        self._acts = not interval.is_everywhere and self._cfg > _OFF
        if not self._acts:
            return
        names = ("prompt", "negative_prompt", "prompt_embeds", "negative_prompt_embeds")
        prompt, negative, *embeds = (self.kwargs.pop(name, None) for name in names)
        count = self.kwargs.pop("num_images_per_prompt", 1)
        cond, uncond = pipeline.encode_prompt(
            prompt, pipeline.device, count, True, negative, prompt_embeds=embeds[0], negative_prompt_embeds=embeds[1]
        )
        self._cond, self._both = cond, torch.cat([uncond, cond])
        self._is_on = self._is_guided(0)
        self.kwargs |= {"prompt_embeds": cond, "negative_prompt_embeds": uncond}
        self.kwargs["guidance_scale"] = self._cfg if self._is_on else _OFF

    def after_step(self, pipeline: Any, step: int, kept: dict[str, Any]) -> dict[str, Any]:
        """The tensors that the pipeline goes on with after a step, counted from 0 in this run."""
        if not self._acts or self._is_guided(step + 1) == self._is_on:
            return kept
        self._is_on = not self._is_on
        self._on_switch()
        pipeline._guidance_scale = self._cfg if self._is_on else _OFF
        return {**kept, "prompt_embeds": self._both if self._is_on else self._cond}

    def _is_guided(self, step: int) -> bool:
        return self._interval.is_guided((self._done + step) / self._steps)
