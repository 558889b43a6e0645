"""Samplers as the WebUI has them, of each family: what they are called with, tell, and draw, on a small denoiser."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, wraps

import torch
from torch import Tensor, nn

SHAPE = (2, 8, 8)
TABLE = torch.linspace(0.9991**0.5, 0.0047**0.5, 1000) ** 2
SIGMAS = ((1 - TABLE) / TABLE).sqrt()
STEPS = 20


class Denoiser(nn.Module):
    """CFGDenoiser, as far as it counts its calls, and cross-frame attention in one.

    Frames see frame 0 unless it is computed alone, which the attention is told as the component of that name is.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.step = 0
        self.calls: list[float] = []
        self.is_first_frame_only = False
        self.on_call = lambda number: None
        self._frames = frames

    def forward(self, x: Tensor, level: Tensor, **_given: object) -> Tensor:
        self.calls.append(float(level[0]))
        self.on_call(len(self.calls))
        self.step += 1
        clips = x.unflatten(0, (-1, self._frames))
        if self.is_first_frame_only:
            clips = clips[:, :1].expand_as(clips)
        return torch.tanh(clips + clips[:, :1].mean(-1, keepdim=True)).flatten(0, 1) * 0.5

    @contextmanager
    def first_frame_only(self) -> Iterator[None]:
        self.is_first_frame_only = True
        try:
            yield
        finally:
            self.is_first_frame_only = False


def of_p(sample):
    """A sampler's function as the WebUI has it once there is a request, which gives k-diffusion its noise."""
    return wraps(sample)(lambda p: partial(sample, p))


@of_p
def euler_a(p, model, x, sigmas, extra_args=None, callback=None, disable=None, eta=1.0):
    """k-diffusion: told of after its call, noise at the end of the step."""
    for i in range(len(sigmas) - 1):
        denoised = model(x, sigmas[i] * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": sigmas[i], "denoised": denoised})
        down = sigmas[i + 1] * 0.8
        x = x + (x - denoised) / sigmas[i] * (down - sigmas[i])
        x = x + p.rng.next() * (sigmas[i + 1] ** 2 - down**2).sqrt()
    return x


@of_p
def heun_with_churn(p, model, x, sigmas, extra_args=None, callback=None, disable=None, s_churn=2.0):
    """k-diffusion: noise at the beginning of a step, and told of at the level that this makes; two calls each."""
    for i in range(len(sigmas) - 1):
        hat = sigmas[i] * 1.02
        x = x + p.rng.next() * (hat**2 - sigmas[i] ** 2).sqrt()
        denoised = model(x, hat * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": i, "sigma": sigmas[i], "sigma_hat": hat, "denoised": denoised})
        slope = (x - denoised) / hat
        after = x + slope * (sigmas[i + 1] - hat)
        if sigmas[i + 1] > 0:
            again = model(after, sigmas[i + 1] * x.new_ones(len(x)), **extra_args)
            slope = (slope + (after - again) / sigmas[i + 1]) / 2
        x = x + slope * (sigmas[i + 1] - hat)
    return x


@of_p
def ddim(p, model, x, timesteps, extra_args=None, callback=None, disable=None, eta=0.0):
    """Timesteps in ascending order; latents are scaled; told of when the step is over."""
    for i in range(len(timesteps) - 1):
        index = len(timesteps) - 1 - i
        left, lower = TABLE[timesteps[index]], TABLE[timesteps[index - 1]]
        noise = model(x, timesteps[index] * x.new_ones(len(x)), **extra_args)
        picture = (x - (1 - left).sqrt() * noise) / left.sqrt()
        spread = 0.3 * (1 - lower).sqrt()
        x = lower.sqrt() * picture + ((1 - lower) - spread**2).sqrt() * noise + spread * p.rng.next()
        callback({"x": x, "i": i, "sigma": 0, "sigma_hat": 0, "denoised": picture})
    return x


@of_p
def unipc(p, model, x, timesteps, extra_args=None, callback=None, disable=None, is_img2img=False):
    """Levels of its own, from the number of timesteps, or on from the last of img2img's; a call at the step's end."""
    p.orders.append(p.opts.uni_pc_order)
    assert len(timesteps) >= p.opts.uni_pc_order, "UniPC order must be < sampling steps"
    highest = float(timesteps[-1]) if is_img2img else 999.0
    levels = torch.linspace(highest, 0, len(timesteps) + 1)
    noise = model(x, levels[0] * x.new_ones(len(x)), **extra_args)
    for i in range(len(timesteps)):
        left, lower = share_left(levels[i]), share_left(levels[i + 1])
        x = lower.sqrt() * (x - (1 - left).sqrt() * noise) / left.sqrt() + (1 - lower).sqrt() * noise
        if i < len(timesteps) - 1:
            noise = model(x, levels[i + 1] * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": i, "sigma": 0, "sigma_hat": 0, "denoised": noise})
    return x


@of_p
def dpm_fast(p, model, x, sigma_min, sigma_max, n, extra_args=None, callback=None, disable=None):
    """Levels of its own between two, as many as calls; told of at the beginning of a step."""
    levels = torch.linspace(torch.tensor(sigma_max).log(), torch.tensor(sigma_min).log(), n + 1).exp()
    for i in range(n):
        denoised = model(x, levels[i] * x.new_ones(len(x)), **extra_args)
        callback({"x": x, "i": i, "sigma": levels[i], "sigma_hat": levels[i], "denoised": denoised})
        x = denoised + (x - denoised) * levels[i + 1] / levels[i]
    return x


@of_p
def dpm_adaptive(p, model, x, sigma_min, sigma_max, extra_args=None, callback=None, disable=None):
    """As many steps as it likes; told of when a step is over."""
    sigma, i = torch.tensor(sigma_max), 0
    while sigma > sigma_min:
        lower = (sigma * 0.8).clamp(min=sigma_min)
        denoised = model(x, sigma * x.new_ones(len(x)), **extra_args)
        x, sigma = denoised + (x - denoised) * lower / sigma, lower
        callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": denoised})
        i += 1
    return x


def share_left(timestep: Tensor) -> Tensor:
    below = int(timestep.floor().clamp(max=998))
    share = timestep - below
    return ((1 - share) * TABLE[below].log() + share * TABLE[below + 1].log()).exp()


def schedule(kind, steps: int = STEPS) -> dict:
    """What the WebUI hands to a sampler's function of this kind, beside its usual arguments."""
    if kind in (ddim, unipc):
        return {"timesteps": (torch.arange(0, 1000, 1000 // steps) + 1).clamp(max=999)}
    if kind is dpm_fast:
        return {"sigma_min": float(SIGMAS[0]), "sigma_max": float(SIGMAS[-1]), "n": steps}
    if kind is dpm_adaptive:
        return {"sigma_min": float(SIGMAS[0]), "sigma_max": float(SIGMAS[-1])}
    ramp = torch.linspace(999, 0, steps).round().long()
    return {"sigmas": torch.cat([SIGMAS[ramp], torch.zeros(1)])}


def begins_at(kind, named: dict) -> float:
    """What unit noise is multiplied with."""
    if kind in (ddim, unipc):
        return 1.0
    return float(named["sigmas"][0]) if "sigmas" in named else named["sigma_max"]
