"""Which noise each frame of a clip begins with: plans and arithmetic for hosts that draw noise frame by frame.

A frame's noise is that of its seed, one generator for each frame. So a plan only says whose noise a frame takes, and
what a host draws later for the same frame (ancestral samplers, hires fix) follows its seed by itself.
"""

from __future__ import annotations

import re
import reprlib

import torch
from torch import Tensor

from motion_module import ClipError

RANDOM, FREENOISE, SHARED, CONSTANT = "random", "freenoise", "shared", "constant"
NOISE_KINDS = (RANDOM, FREENOISE, SHARED, CONSTANT)
SEED_LIMIT = 2**63  # torch takes 64 bits; half of them leave room for the seeds of later frames


def noise_sources(kind: str, frames: int, length: int, overlap: int, seed: int) -> list[int]:
    """For each frame of a clip, the frame whose noise it takes; frame 0 always has its own.

    ``"random"`` and ``"shared"`` leave each frame its own noise, ``"constant"`` gives all that of frame 0.
    ``"freenoise"`` (FreeNoise) gives the first ``length`` frames their own; each later block of as many frames as a
    window advances takes the noise of the block ``length`` frames before it, in random order. So every window sees
    much the same noise, and distant parts of a clip agree.

    The order of a block depends on ``seed`` and on which block it is. A last block that does not fit takes the
    beginning of its whole order, so frame i has the same source in a clip of any length. (Other implementations
    permute only what fits, and each length is another clip.)

    Args:
        kind: one of `NOISE_KINDS`.
        length, overlap: of the context windows; ``overlap`` is less than ``length``.
        seed: of the order of the blocks.

    Raises:
        ClipError: there is no such kind.
    """
    if kind not in NOISE_KINDS:
        raise ClipError(f"There is no noise of the kind {kind!r}. Use one of: {', '.join(NOISE_KINDS)}.")
    if kind == CONSTANT:
        return [0] * frames
    sources = list(range(frames if kind != FREENOISE else min(frames, length)))
    generator = torch.Generator().manual_seed(seed)
    for begin in range(0, frames - len(sources), length - overlap):
        order = torch.randperm(length - overlap, generator=generator).tolist()
        sources += [sources[begin + place] for place in order]
    return sources[:frames]


def shared_noise(noise: Tensor, first: Tensor | None, share: float) -> Tensor:
    """Frames' noise with a part that all of them have in common: that of frame 0. Each stays as strong as it was.

    Frame 0 is left as it is: of the others, ``share`` of the variance is frame 0's, the rest their own.

    Args:
        noise: ``(f, ...)``, independent from frame to frame; not changed.
        first: frame 0's noise, ``(...)``, where ``noise`` holds later frames only; None where it begins with frame 0.
        share: 0 for each its own, bit for bit; 1 for the same noise everywhere.

    Returns:
        A tensor like ``noise``.
    """
    common = (noise[0] if first is None else first).to(noise.device, torch.float32)
    mixed: Tensor = (share**0.5 * common + (1 - share) ** 0.5 * noise.float()).to(noise.dtype)
    if first is None:
        mixed[0] = noise[0]
    return mixed


def parse_frame_seeds(text: str, frames: int) -> list[int] | None:
    """A seed for each frame from ``"5, 6, 7"``; after the last of a shorter list it goes on counting. None: no text.

    Raises:
        ClipError: a seed is no whole number in range, or there are more seeds than frames.
    """
    words = re.findall(r"[^\s,]+", text)
    if not words:
        return None
    seeds = [_seed_of(word) for word in words]
    if len(seeds) > frames:
        raise ClipError(f"frame_seeds has {len(seeds)} seeds for {frames} frames. Leave out some, or make more frames.")
    return seeds + [seeds[-1] + more for more in range(1, frames - len(seeds) + 1)]


def _seed_of(word: str) -> int:
    if re.fullmatch("[0-9]{1,19}", word) and int(word) < SEED_LIMIT:
        return int(word)
    raise ClipError(
        f"frame_seeds has {reprlib.repr(word)}. Write whole numbers from 0 to {SEED_LIMIT - 1} with commas between "
        "them, such as 5, 6, 7."
    )
