"""The noise levels that a sampler of the WebUI steps down, and how to have it begin at one in the middle.

Samplers tell of each step by a callback, with the latents; in which coordinates, and whether before or after the step,
differs from family to family. A level is given as sigma = sqrt((1 - abar) / abar) everywhere.
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

_LAST_TIMESTEP = 999  # where the WebUI's UniPC begins


@dataclass(frozen=True)
class NoiseLevel:
    """A noise level of a sampler's schedule.

    Attributes:
        sigma: noise in units of the clean picture.
        done: steps of the schedule before it.
        scale: latents there are a picture plus sigma times unit noise, times this.
        calls: how often the denoiser has computed there already when the sampler tells of it.
        at: the same level as the sampler's own schedule has it.
    """

    sigma: float
    done: int
    scale: float = 1.0
    calls: int = 0
    at: float = 0.0


class SamplerSchedule:
    """A sampler's schedule.

    Attributes:
        begins: the rung that it begins at.
    """

    begins: NoiseLevel

    def note(self, level: Tensor) -> None:
        """The denoiser is called, with this noise level in the sampler's own terms."""

    def level(self, told: dict[str, Any]) -> NoiseLevel:
        """Where the latents are that a sampler tells of."""
        raise NotImplementedError

    @contextmanager
    def resume_kwargs(self, level: NoiseLevel) -> Iterator[dict[str, Any]]:
        """The arguments with which the sampler begins at a rung; until the end of the block, options are so, too."""
        yield self._rest(level) if level.done else {}

    def _rest(self, level: NoiseLevel) -> dict[str, Any]:
        raise NotImplementedError


def sampler_schedule(function: Callable[..., Tensor], named: dict[str, Any], alphas_cumprod: Tensor) -> SamplerSchedule:
    """The schedule that a sampler's function is called with.

    Raises:
        ClipError: it has none that is known.
    """
    if "sigmas" in named:
        return _Sigmas(named["sigmas"])
    if "sigma_max" in named:
        return _Range(named["sigma_min"], named["sigma_max"], named.get("n"))
    if "timesteps" not in named:
        raise ClipError(
            "This sampler cannot begin in the middle of its steps, which Text2Video-Zero requires. Choose another, "
            "such as Euler a.",
            code="AD-W14",
        )
    if "is_img2img" in inspect.signature(function).parameters:
        return _UniPC(len(named["timesteps"]), alphas_cumprod)
    return _Timesteps(named["timesteps"], alphas_cumprod)


class _Sigmas(SamplerSchedule):
    """k-diffusion's: latents are told with the level that they have, after the first call in their step."""

    def __init__(self, sigmas: Tensor) -> None:
        self._sigmas = sigmas
        self.begins = NoiseLevel(float(sigmas[0]), 0)

    def level(self, told: dict[str, Any]) -> NoiseLevel:
        place, sigma = told["i"], float(told["sigma_hat"])
        # Churn has put some noise on top of the schedule's own level.
        is_own = place < len(self._sigmas) and told["sigma"] == self._sigmas[place]
        return NoiseLevel(sigma, place, calls=1, at=float(told["sigma"]) if is_own else sigma)

    def _rest(self, level: NoiseLevel) -> dict[str, Any]:
        lower = self._sigmas[self._sigmas < level.at]
        return {"sigmas": torch.cat([lower.new_tensor([level.sigma]), lower])}


class _Range(SamplerSchedule):
    """DPM fast and DPM adaptive, which choose their levels between two."""

    def __init__(self, lowest: float, highest: float, calls: int | None) -> None:
        self._lowest = lowest
        self._highest = highest
        self._calls = calls
        self.begins = NoiseLevel(highest, 0)

    def level(self, told: dict[str, Any]) -> NoiseLevel:
        sigma = float(told["sigma"])
        # DPM fast tells at the beginning of a step, DPM adaptive at its end.
        return NoiseLevel(sigma, told["i"], calls=1) if self._calls else NoiseLevel(sigma, told["i"] + 1)

    def _rest(self, level: NoiseLevel) -> dict[str, Any]:
        if not self._calls:
            return {"sigma_max": level.sigma}
        left = math.log(level.sigma / self._lowest) / math.log(self._highest / self._lowest)
        return {"sigma_max": level.sigma, "n": max(round(self._calls * left), 1)}


class _OfTable(SamplerSchedule):
    """Samplers that keep latents scaled down, and count in timesteps of the table of ``alphas_cumprod``."""

    def __init__(self, alphas_cumprod: Tensor) -> None:
        self._logs = alphas_cumprod.detach().cpu().double().log()

    def _level(self, timestep: float, done: int, **more: Any) -> NoiseLevel:
        below = min(max(math.floor(timestep), 0), len(self._logs) - 2)
        share = timestep - below
        left = math.exp((1 - share) * self._logs[below] + share * self._logs[below + 1])
        return NoiseLevel(math.sqrt((1 - left) / left), done, math.sqrt(left), at=timestep, **more)


class _Timesteps(_OfTable):
    """DDIM, DDIM CFG++ and PLMS: timesteps in ascending order; latents are told when their step is over."""

    def __init__(self, timesteps: Tensor, alphas_cumprod: Tensor) -> None:
        super().__init__(alphas_cumprod)
        self._timesteps = timesteps
        self.begins = self._after(0)

    def level(self, told: dict[str, Any]) -> NoiseLevel:
        return self._after(told["i"] + 1)

    def _after(self, done: int) -> NoiseLevel:
        return self._level(float(self._timesteps[len(self._timesteps) - 1 - done]), done)

    def _rest(self, level: NoiseLevel) -> dict[str, Any]:
        return {"timesteps": self._timesteps[: len(self._timesteps) - level.done]}


class _UniPC(_OfTable):
    """UniPC: makes its own timesteps; latents are told when their step, with the call at its end, is over."""

    def __init__(self, steps: int, alphas_cumprod: Tensor) -> None:
        super().__init__(alphas_cumprod)
        self._steps = steps
        self._called_at = float(_LAST_TIMESTEP)
        self.begins = self._level(self._called_at, 0)

    def note(self, level: Tensor) -> None:
        self._called_at = float(level.max())

    def level(self, told: dict[str, Any]) -> NoiseLevel:
        return self._level(self._called_at, told["i"] + 1, calls=1)

    @contextmanager
    def resume_kwargs(self, level: NoiseLevel) -> Iterator[dict[str, Any]]:
        left = self._steps - level.done
        order = min(a1111.opts().uni_pc_order, left)
        with a1111.options_for_one_run(uni_pc_order=order), super().resume_kwargs(level) as resumed:
            yield resumed

    def _rest(self, level: NoiseLevel) -> dict[str, Any]:
        # Of img2img's timesteps it takes their number, and the last one as the level to begin at.
        return {"timesteps": torch.full((self._steps - level.done,), level.at), "is_img2img": True}
