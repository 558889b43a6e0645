"""The noise levels of the WebUI's samplers, and how to begin a sampler in the middle of its schedule.

Samplers report each step with its latents by a callback. The coordinates, and whether the report comes before or after
the step, differ between the families of samplers. Here a level is always sigma = sqrt((1 - abar) / abar).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.hosts.webui.compat import a1111
from motion_module import ClipError

_LAST_TIMESTEP = 999  # the first timestep of the WebUI's UniPC


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level of a sampler's schedule.

    Attributes:
        sigma: noise in units of the clean image.
        done: number of steps of the schedule before it.
        scale: factor of the latents, which are scale * (image + sigma * unit noise).
        calls: number of denoiser calls at this level before the sampler reports it.
        at: the same level in the sampler's own schedule.
    """

    sigma: float
    done: int
    scale: float = 1.0
    calls: int = 0
    at: float = 0.0


class SamplerSchedule:
    """A sampler's schedule.

    Attributes:
        begins: the first level.
    """

    begins: NoiseLevel

    def note(self, level: Tensor) -> None:
        """Record the noise level of a denoiser call, in the sampler's own coordinates."""

    def level(self, report: dict[str, Any]) -> NoiseLevel:
        """The level of the latents in a sampler's report."""
        raise NotImplementedError

    @contextmanager
    def resume_kwargs(self, level: NoiseLevel) -> Iterator[dict[str, Any]]:
        """The arguments with which the sampler begins at a level; options are set until the end of the block."""
        yield self._resume(level) if level.done else {}

    def _resume(self, level: NoiseLevel) -> dict[str, Any]:
        raise NotImplementedError


_SILENT = "sample_unipc"  # Forge Neo's UniPC, which reports no noise levels


def sampler_schedule(function: Callable[..., Tensor], named: dict[str, Any], alphas_cumprod: Tensor) -> SamplerSchedule:
    """The schedule in the arguments of a sampler's function.

    Raises:
        ClipError: the arguments contain no known schedule.
    """
    is_silent = getattr(function, "__name__", "") == _SILENT
    if "sigmas" in named and not is_silent:
        return _Sigmas(named["sigmas"])
    if "sigma_max" in named:
        return _Range(named["sigma_min"], named["sigma_max"], named.get("n"))
    if "timesteps" not in named or is_silent:
        raise ClipError(
            "This sampler cannot begin in the middle of its steps, which Text2Video-Zero requires. Choose another, "
            "such as Euler a.",
            code="AD-W14",
        )
    if "is_img2img" in inspect.signature(function).parameters:
        return _UniPC(len(named["timesteps"]), alphas_cumprod)
    return _Timesteps(named["timesteps"], alphas_cumprod)


class _Sigmas(SamplerSchedule):
    """k-diffusion: latents are reported with their level, after the first call in their step."""

    def __init__(self, sigmas: Tensor) -> None:
        self._sigmas = sigmas
        self.begins = NoiseLevel(float(sigmas[0]), 0)

    def level(self, report: dict[str, Any]) -> NoiseLevel:
        place, sigma = report["i"], float(report["sigma_hat"])
        # Churn has added noise to the level of the schedule.
        is_own = place < len(self._sigmas) and report["sigma"] == self._sigmas[place]
        return NoiseLevel(sigma, place, calls=1, at=float(report["sigma"]) if is_own else sigma)

    def _resume(self, level: NoiseLevel) -> dict[str, Any]:
        lower = self._sigmas[self._sigmas < level.at]
        return {"sigmas": torch.cat([lower.new_tensor([level.sigma]), lower])}


class _Range(SamplerSchedule):
    """DPM fast and DPM adaptive, which choose their levels between two limits."""

    def __init__(self, lowest: float, highest: float, calls: int | None) -> None:
        self._lowest = lowest
        self._highest = highest
        self._calls = calls
        self.begins = NoiseLevel(highest, 0)

    def level(self, report: dict[str, Any]) -> NoiseLevel:
        sigma = float(report["sigma"])
        # DPM fast reports at the beginning of a step, DPM adaptive at its end.
        return NoiseLevel(sigma, report["i"], calls=1) if self._calls else NoiseLevel(sigma, report["i"] + 1)

    def _resume(self, level: NoiseLevel) -> dict[str, Any]:
        if not self._calls:
            return {"sigma_max": level.sigma}
        left = math.log(level.sigma / self._lowest) / math.log(self._highest / self._lowest)
        return {"sigma_max": level.sigma, "n": max(round(self._calls * left), 1)}


class _TimestepSchedule(SamplerSchedule):
    """Samplers with scaled latents, whose levels are timesteps of the table ``alphas_cumprod``."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        self._logs = alphas_cumprod.detach().cpu().double().log()

    def _level(self, timestep: float, done: int, **more: Any) -> NoiseLevel:
        below = min(max(math.floor(timestep), 0), len(self._logs) - 2)
        share = timestep - below
        left = math.exp((1 - share) * self._logs[below] + share * self._logs[below + 1])
        return NoiseLevel(math.sqrt((1 - left) / left), done, math.sqrt(left), at=timestep, **more)


class _Timesteps(_TimestepSchedule):
    """DDIM, DDIM CFG++ and PLMS: timesteps in ascending order; latents are reported at the end of their step."""

    def __init__(self, timesteps: Tensor, alphas_cumprod: Tensor) -> None:
        super().__init__(alphas_cumprod)
        self._timesteps = timesteps
        self.begins = self._after(0)

    def level(self, report: dict[str, Any]) -> NoiseLevel:
        return self._after(report["i"] + 1)

    def _after(self, done: int) -> NoiseLevel:
        return self._level(float(self._timesteps[len(self._timesteps) - 1 - done]), done)

    def _resume(self, level: NoiseLevel) -> dict[str, Any]:
        return {"timesteps": self._timesteps[: len(self._timesteps) - level.done]}


class _UniPC(_TimestepSchedule):
    """UniPC: computes its own timesteps; latents are reported at the end of their step, after its last call."""

    def __init__(self, steps: int, alphas_cumprod: Tensor) -> None:
        super().__init__(alphas_cumprod)
        self._steps = steps
        self._called_at = float(_LAST_TIMESTEP)
        self.begins = self._level(self._called_at, 0)

    def note(self, level: Tensor) -> None:
        self._called_at = float(level.max())

    def level(self, report: dict[str, Any]) -> NoiseLevel:
        return self._level(self._called_at, report["i"] + 1, calls=1)

    @contextmanager
    def resume_kwargs(self, level: NoiseLevel) -> Iterator[dict[str, Any]]:
        left = self._steps - level.done
        order = min(a1111.opts().uni_pc_order, left)
        with a1111.options_for_one_run(uni_pc_order=order), super().resume_kwargs(level) as resumed:
            yield resumed

    def _resume(self, level: NoiseLevel) -> dict[str, Any]:
        # From img2img's timesteps it uses their number, and the last one as the first level.
        return {"timesteps": torch.full((self._steps - level.done,), level.at), "is_img2img": True}
