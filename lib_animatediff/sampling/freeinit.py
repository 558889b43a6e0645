"""FreeInit (arXiv 2312.07537): sample a clip several times, refining the low frequencies of its initial noise.

The low spatio-temporal frequencies of the initial noise determine the layout of a clip. Those of random noise differ
between frames; those of a finished clip are consistent. Each iteration therefore adds noise to the finished latents,
keeps their low frequencies, and replaces the high ones with new noise. The functions are pure; hosts run the loop.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from motion_module import ClipError

_FRAMES_AND_IMAGE = (1, 3, 4)  # f, h, w of ``b f c h w``
_BUTTERWORTH_ORDER = 4


def low_pass(
    kind: str, shape: tuple[int, int, int], spatial: float, temporal: float, device: torch.device | str = "cpu"
) -> Tensor:
    """Share of each frequency that passes, 0 to 1, with frequency zero in the centre: ``f h w``, float32.

    Frequency i of n along an axis is ``2 i / n - 1``; the time axis is scaled by ``spatial / temporal``. With d the
    distance from the centre: ``"butterworth"`` 1 / (1 + (d / spatial)^8); ``"gaussian"`` exp(-d^2 / (2 spatial^2));
    ``"ideal"`` 1 where d^2 <= 2 spatial (as in other implementations, not spatial^2); ``"box"`` 1 in a box whose sides
    are ``temporal`` and ``spatial`` of the whole.

    Args:
        kind: one of `FILTERS`.
        shape: f, h, w of the latents.
        spatial, temporal: cutoff frequencies, 0 to 1. If one of them is 0, nothing passes.

    Raises:
        ClipError: the filter is unknown.
    """
    if kind not in FILTERS:
        raise ClipError(f"There is no filter {kind!r}. Choose one of: {', '.join(FILTERS)}.", code="AD-S04")
    if spatial == 0 or temporal == 0:
        return torch.zeros(shape, device=device)
    # float64, so that frequencies on the cutoff are classified exactly; computed on the CPU, as MPS has no float64.
    return FILTERS[kind](shape, spatial, temporal).to(torch.float32).to(device)


def mix(low: Tensor, high: Tensor, passes: Tensor) -> Tensor:
    """Combine the low frequencies of one tensor with the high frequencies of another.

    Args:
        low, high: ``b f c h w``.
        passes: share of each frequency to take from ``low``, see `low_pass`.

    Returns:
        A tensor like ``low``. Computed in float32, on the CPU if the device lacks this transform (MPS).
    """
    place = torch.device("cpu") if low.device.type == "mps" else low.device
    fresh = high.to(place, torch.float32)
    difference = low.to(place, torch.float32) - fresh
    weights = torch.fft.ifftshift(passes.to(place, torch.float32)).unsqueeze(1)
    change = torch.fft.ifftn(weights * torch.fft.fftn(difference, dim=_FRAMES_AND_IMAGE), dim=_FRAMES_AND_IMAGE)
    mixed: Tensor = fresh + change.real
    return mixed.to(low.device, low.dtype)


def renoise(x0: Tensor, initial_noise: Tensor, last_alpha_cumprod: float) -> Tensor:
    """Add the initial noise to finished latents at the last noise level of the schedule; the result is like ``x0``."""
    signal, noise = last_alpha_cumprod**0.5, (1 - last_alpha_cumprod) ** 0.5
    noised: Tensor = signal * x0.float() + noise * initial_noise.float()
    return noised.to(x0.dtype)


def next_noise(
    x0: Tensor,
    initial: Tensor,
    fresh: Tensor,
    *,
    frames: int,
    last_alpha_cumprod: float,
    kind: str,
    spatial: float,
    temporal: float,
) -> Tensor:
    """Initial noise of the next iteration, with unit variance.

    Args:
        x0: finished latents of the previous iteration.
        initial: initial noise of the first iteration.
        fresh: new noise, see `fresh_noise`. Reusing ``initial`` instead, as some implementations do, would repeat the
            same details in every iteration. All three are ``(b f) c h w``.
        frames: number of frames of a clip.
        last_alpha_cumprod: last value of the schedule that the clip is sampled with.
        kind, spatial, temporal: see `low_pass`.
    """
    clips = (-1, frames, *x0.shape[1:])
    low = renoise(x0, initial, last_alpha_cumprod).reshape(clips)
    passes = low_pass(kind, (frames, x0.shape[-2], x0.shape[-1]), spatial, temporal)
    return mix(low, fresh.reshape(clips), passes).flatten(0, 1).to(initial.dtype)


def steps_of(iteration: int, iterations: int, steps: int, coarse: bool) -> int:
    """Sampling steps of an iteration, counted from 0: always all, or with ``coarse`` increasing towards all."""
    return max(1, steps * (iteration + 1) // iterations) if coarse else steps


def fresh_noise(shape: Sequence[int], seeds: Sequence[int | tuple[int, ...]], iteration: int) -> Tensor:
    """New noise for the high frequencies of an iteration; each row is independent of the rest of the batch.

    Args:
        shape: shape of one frame, such as ``(c, h, w)``.
        seeds: for each frame a seed, or several numbers that identify it.
        iteration: index of the iteration that uses the noise.

    Returns:
        ``(len(seeds), *shape)``, float32 on the CPU, identical on every machine.
    """
    generators = [torch.Generator().manual_seed(_mixed(seed, iteration)) for seed in seeds]
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def _mixed(seed: int | tuple[int, ...], iteration: int) -> int:
    # A sum of both would equal the seed of another frame, whose noise the clip already contains.
    return int.from_bytes(hashlib.sha256(f"freeinit {seed} {iteration}".encode()).digest()[:8], "big")


def _axes(shape: tuple[int, int, int]) -> list[Tensor]:
    axes = [2 * torch.arange(size, dtype=torch.float64) / size - 1 for size in shape]
    return list(torch.meshgrid(axes, indexing="ij"))


def _distance(shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    """Squared distance from the centre."""
    t, h, w = _axes(shape)
    return (spatial / temporal * t) ** 2 + h**2 + w**2


def _butterworth(shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    return 1 / (1 + (_distance(shape, spatial, temporal) / spatial**2) ** _BUTTERWORTH_ORDER)


def _gaussian(shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    return torch.exp(-_distance(shape, spatial, temporal) / (2 * spatial**2))


def _ideal(shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    return _distance(shape, spatial, temporal) <= 2 * spatial


def _box(shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    passes = torch.zeros(shape)
    middles = [size // 2 for size in shape]
    halves = [round(middle * part) for middle, part in zip(middles, (temporal, spatial, spatial), strict=True)]
    t, h, w = (slice(middle - half, middle + half) for middle, half in zip(middles, halves, strict=True))
    passes[t, h, w] = 1
    return passes


FILTERS: dict[str, Callable[[tuple[int, int, int], float, float], Tensor]] = {
    "butterworth": _butterworth,
    "gaussian": _gaussian,
    "box": _box,
    "ideal": _ideal,
}
