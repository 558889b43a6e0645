"""Initial noise of each frame: plans and arithmetic for hosts that draw noise frame by frame.

Each frame's noise comes from a generator with its own seed. A plan states which frame's seed a frame uses, so noise
drawn later for the same frame (ancestral samplers, hires fix) follows the plan as well.
"""

from __future__ import annotations

import re
import reprlib

import torch
from torch import Tensor

from motion_module import ClipError

RANDOM, FREENOISE, SHARED, CONSTANT = "random", "freenoise", "shared", "constant"
NOISE_KINDS = (RANDOM, FREENOISE, SHARED, CONSTANT)
SEED_LIMIT = 2**64  # seeds of later frames go on from 0


def noise_sources(kind: str, frames: int, length: int, overlap: int, seed: int) -> list[int]:
    """For each frame of a clip, the frame whose noise it uses; frame 0 always uses its own.

    With ``"random"`` and ``"shared"`` each frame uses its own noise, with ``"constant"`` all use that of frame 0. With
    ``"freenoise"`` (FreeNoise, arXiv 2310.15169) the first ``length`` frames use their own; each later block, as long
    as the step between windows, uses the noise of the block ``length`` frames earlier in random order. All windows
    then contain similar noise, which keeps distant parts of a clip consistent.

    The order of a block depends on ``seed`` and on the block's index. A shorter last block uses the beginning of its
    order, so that a frame has the same source in clips of any length. (Other implementations permute only the frames
    that are left, so that each length gives another clip.)

    Args:
        kind: one of `NOISE_KINDS`.
        length, overlap: of the context windows; ``overlap`` is less than ``length``.
        seed: determines the order within blocks.

    Raises:
        ClipError: the kind is unknown.
    """
    if kind not in NOISE_KINDS:
        raise ClipError(f"There is no noise kind {kind!r}. Choose one of: {', '.join(NOISE_KINDS)}.", code="AD-S01")
    if kind == CONSTANT:
        return [0] * frames
    sources = list(range(frames if kind != FREENOISE else min(frames, length)))
    generator = torch.Generator().manual_seed(seed)
    for begin in range(0, frames - len(sources), length - overlap):
        order = torch.randperm(length - overlap, generator=generator).tolist()
        sources += [sources[begin + place] for place in order]
    return sources[:frames]


def shared_noise(noise: Tensor, first: Tensor | None, share: float) -> Tensor:
    """Mix the noise of frame 0 into that of all other frames, preserving its variance.

    Of each other frame's variance, ``share`` comes from frame 0 and the rest from its own noise.

    Args:
        noise: ``f ...``, independent between frames; not changed.
        first: frame 0's noise, ``...``, if ``noise`` contains later frames only; None if it starts with frame 0.
        share: 0 to 1; 0 returns the input bit for bit, 1 gives all frames the same noise.

    Returns:
        A tensor like ``noise``.
    """
    common = (noise[0] if first is None else first).to(noise.device, torch.float32)
    mixed: Tensor = (share**0.5 * common + (1 - share) ** 0.5 * noise.float()).to(noise.dtype)
    if first is None:
        mixed[0] = noise[0]
    return mixed


def parse_frame_seeds(text: str, frames: int) -> list[int] | None:
    """One seed per frame from ``"5, 6, 7"``; shorter lists are continued by counting up. None for an empty text.

    Raises:
        ClipError: a seed is not a whole number in range, or there are more seeds than frames.
    """
    words = re.findall(r"[^\s,]+", text)
    if not words:
        return None
    seeds = [_seed_of(word) for word in words]
    if len(seeds) > frames:
        raise ClipError(
            f"frame_seeds contains {len(seeds)} seeds for {frames} frames. Remove some, or render more frames.",
            code="AD-S02",
        )
    return seeds + [(seeds[-1] + more) % SEED_LIMIT for more in range(1, frames - len(seeds) + 1)]


def _seed_of(word: str) -> int:
    if re.fullmatch("[0-9]{1,20}", word) and int(word) < SEED_LIMIT:
        return int(word)
    raise ClipError(
        f"frame_seeds contains {reprlib.repr(word)}. Write whole numbers from 0 to {SEED_LIMIT - 1}, separated by "
        "commas, such as 5, 6, 7.",
        code="AD-S03",
    )
