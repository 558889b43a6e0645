"""FreeInit: sample a clip several times, each time from noise that has the former result's slow parts.

A clip's low frequencies, over time as well as over the image, decide what holds still in it. Those of fresh noise
disagree from frame to frame; those of a finished clip do not. So its latents are noised again, and only the high
frequencies are drawn anew. Everything here is a function of its arguments: the loop belongs to the host.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from motion_module import ClipError

_FRAMES_AND_PICTURE = (1, 3, 4)  # f, h, w of ``b f c h w``
_BUTTERWORTH_ORDER = 4


def low_pass(
    kind: str, shape: tuple[int, int, int], spatial: float, temporal: float, device: torch.device | str = "cpu"
) -> Tensor:
    """What passes of each frequency, 0 to 1, with the zero frequency in the middle: ``(f, h, w)``, float32.

    Frequency i of n along an axis is ``2 i / n - 1``; time is stretched by ``spatial / temporal``. With d the distance
    from the middle: ``"butterworth"`` 1 / (1 + (d / spatial)^8); ``"gaussian"`` exp(-d^2 / (2 spatial^2)); ``"ideal"``
    1 where d^2 <= 2 spatial (so users know it from elsewhere, not spatial^2); ``"box"`` 1 in a box whose sides are
    ``temporal`` and ``spatial`` of the whole.

    Args:
        kind: one of `FILTERS`.
        shape: f, h, w of the latents.
        spatial, temporal: which part of the frequencies passes, 0 to 1. If one of them is 0, nothing does.

    Raises:
        ClipError: there is no such filter.
    """
    if kind not in FILTERS:
        raise ClipError(f"There is no filter {kind!r}. Use one of: {', '.join(FILTERS)}.")
    if spatial == 0 or temporal == 0:
        return torch.zeros(shape, device=device)
    # In double precision, so that what lies on an edge falls on its right side; some devices have none.
    return FILTERS[kind](shape, spatial, temporal).to(torch.float32).to(device)


def mix(low: Tensor, high: Tensor, passes: Tensor) -> Tensor:
    """The low frequencies of one tensor with the high ones of another.

    Args:
        low, high: ``(b, f, c, h, w)``.
        passes: which part of each frequency is ``low``'s, as `low_pass` gives it.

    Returns:
        A tensor like ``low``. Computed in float32, and in main memory where the device (MPS) has no such transform.
    """
    place = torch.device("cpu") if low.device.type == "mps" else low.device
    fresh = high.to(place, torch.float32)
    difference = low.to(place, torch.float32) - fresh
    weights = torch.fft.ifftshift(passes.to(place, torch.float32)).unsqueeze(1)
    change = torch.fft.ifftn(weights * torch.fft.fftn(difference, dim=_FRAMES_AND_PICTURE), dim=_FRAMES_AND_PICTURE)
    mixed: Tensor = fresh + change.real
    return mixed.to(low.device, low.dtype)


def renoise(x0: Tensor, initial_noise: Tensor, last_alpha_cumprod: float) -> Tensor:
    """Finished latents at the last noise level of the schedule, under the noise that they began with; like ``x0``."""
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
    """The noise of the next iteration, of unit variance as the first one's.

    Args:
        x0: what the former iteration made.
        initial: the noise of the first iteration.
        fresh: noise that no iteration had yet, see `fresh_noise`. With ``initial`` in its place, as some have it, every
            iteration draws the same details.
            All three are rows ``(b f) c h w``.
        frames: of a clip.
        last_alpha_cumprod: of the table that the clip is sampled on.
        kind, spatial, temporal: see `low_pass`.
    """
    clips = (-1, frames, *x0.shape[1:])
    low = renoise(x0, initial, last_alpha_cumprod).reshape(clips)
    passes = low_pass(kind, (frames, x0.shape[-2], x0.shape[-1]), spatial, temporal)
    return mix(low, fresh.reshape(clips), passes).flatten(0, 1).to(initial.dtype)


def steps_of(iteration: int, iterations: int, steps: int, coarse: bool) -> int:
    """Sampling steps of an iteration, counted from 0: all of them, or with ``coarse`` more from one to the next."""
    return max(1, steps * (iteration + 1) // iterations) if coarse else steps


def fresh_noise(shape: Sequence[int], seeds: Sequence[int | tuple[int, ...]], iteration: int) -> Tensor:
    """Noise for the high frequencies of an iteration: a row for each frame, whatever lies beside it in the batch.

    Args:
        shape: of one frame, such as ``(c, h, w)``.
        seeds: what tells each frame's noise from another's: its seed, or several numbers.
        iteration: the one that begins with it.

    Returns:
        ``(len(seeds), *shape)``, float32, in main memory: the same on every machine.
    """
    generators = [torch.Generator().manual_seed(_mixed(seed, iteration)) for seed in seeds]
    return torch.stack([torch.randn(tuple(shape), generator=generator) for generator in generators])


def _mixed(seed: int | tuple[int, ...], iteration: int) -> int:
    # A sum would be the seed of a neighbouring frame, whose noise the clip has already.
    return int.from_bytes(hashlib.sha256(f"freeinit {seed} {iteration}".encode()).digest()[:8], "big")


def _axes(shape: tuple[int, int, int]) -> list[Tensor]:
    axes = [2 * torch.arange(size, dtype=torch.float64) / size - 1 for size in shape]
    return list(torch.meshgrid(axes, indexing="ij"))


def _distance(shape: tuple[int, int, int], spatial: float, temporal: float) -> Tensor:
    """Square of it."""
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
