"""Initial noise of each frame: plans and arithmetic for hosts that draw noise frame by frame.

Each frame's noise comes from a generator with its own seed. A plan states which frame's seed a frame uses, so noise
drawn later for the same frame (ancestral samplers, hires fix) follows the plan as well.
"""

from __future__ import annotations

import re
import reprlib

import torch
from torch import Tensor

from lib_animatediff.engine.context_windows import ContextWindows
from motion_module import ClipError

RANDOM, FREENOISE, SHARED, CONSTANT = "random", "freenoise", "shared", "constant"
NOISE_KINDS = (RANDOM, FREENOISE, SHARED, CONSTANT)
_SLACK = 4  # a quarter of a window more noises than frames in a window: room for another order of them
SEED_LIMIT = 2**64  # seeds of later frames go on from 0


def noise_sources(kind: str, frames: int, windows: ContextWindows, seed: int) -> list[int]:
    """For each frame of a clip, the frame whose noise it uses; frame 0 always uses its own.

    With ``"random"`` and ``"shared"`` each frame uses its own noise, with ``"constant"`` all use that of frame 0.
    ``"freenoise"`` repeats the noise of the first frames in later ones (FreeNoise, arXiv 2310.15169), which keeps
    distant parts of a clip consistent. No two frames that a context window may have together use the same noise, in a
    loop also across its end: the same noise twice in a window stalls the motion or makes it jump.

    Args:
        kind: one of `NOISE_KINDS`.
        windows: the context windows of the clip.
        seed: determines the order of repeated noise.

    Returns:
        Sources, each at most its own frame. Unless the windows wrap around the clip, a frame has the same source in
        clips of any length.

    Raises:
        ClipError: the kind is unknown.
    """
    if kind not in NOISE_KINDS:
        raise ClipError(f"There is no noise kind {kind!r}. Choose one of: {', '.join(NOISE_KINDS)}.", code="AD-S01")
    if kind == CONSTANT:
        return [0] * frames
    if kind != FREENOISE:
        return list(range(frames))
    reach = windows.reach(frames)
    blocks = _blocks(frames, reach + max(windows.length // _SLACK, 1), is_loop=windows.wrap)
    generator = torch.Generator().manual_seed(seed)
    sources = list(range(blocks[0]))
    for block in blocks[1:]:
        sources += _shuffled(min(blocks), min(blocks) - reach + 1, generator)
        sources += range(min(blocks), block)
    return sources[:frames]


def _blocks(frames: int, least: int, *, is_loop: bool) -> list[int]:
    """Lengths of blocks of ``least`` frames or a little more that cover the clip, the longer ones first.

    In a loop they end where the clip ends; otherwise all have the same length, and the last one may pass the end.
    """
    if not is_loop:
        return [least] * -(-frames // least)
    count = max(frames // least, 1)
    return [frames // count + (block < frames % count) for block in range(count)]


def _shuffled(length: int, group: int, generator: torch.Generator) -> list[int]:
    """The numbers below ``length``, each group of neighbours in random order.

    Blocks that are shuffled so have the same number at least ``length - group + 1`` places apart, since it moves by
    less than a group.
    """
    order: list[int] = []
    for begin in range(0, length, group):
        places = torch.randperm(min(group, length - begin), generator=generator).tolist()
        order += [begin + place for place in places]
    return order


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
