"""The metrics, each by its published formula. Embeddings are rows of length 1, ``n d``, fp32.

The paper (arXiv 2307.04725, table 1) reports text, domain and smoothness; VBench (arXiv 2311.17982) the others. Where
theirs takes a network's flow or a network's frames in between, ours takes OpenCV's flow, and the name says proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .flow import Flow, between, follow, grey

if TYPE_CHECKING:
    from torch import Tensor

    from .flow import Frames

_LEVELS = 255
_TOP = 0.05  # of the pixels: those that move most
_DYNAMIC, _DYNAMIC_SIDE = 6.0, 256  # pixels per frame of an image whose shorter side has so many, as in VBench
_DYNAMIC_PAIRS = 4 / 16  # of the frames


def text_score(images: Tensor, text: Tensor) -> float:
    """100 times the mean cosine between each frame and the prompt, ``d``."""
    return 100 * float((images @ text).mean())


def domain_score(images: Tensor, references: Tensor) -> float:
    """100 times the mean cosine between each frame and each still that the model paints without motion."""
    return 100 * float((images @ references.T).mean())


def smoothness(images: Tensor) -> float:
    """100 times the mean cosine of neighbouring frames."""
    return 100 * float((images[1:] * images[:-1]).sum(dim=1).mean())


def smoothness_of_all_pairs(images: Tensor) -> float:
    """100 times the mean cosine of all pairs of frames."""
    n = len(images)
    off_diagonal = (images @ images.T).sum() - images.square().sum()
    return 100 * float(off_diagonal) / (n * (n - 1))


def consistency(images: Tensor) -> float:
    """VBench's subject consistency (embedded by DINO) and background consistency (by CLIP), 0 to 1.

    The mean over all frames but the first of the cosines with the frame before and with the first one, those below 0
    counted as 0.
    """
    later = images[1:]
    before = (later * images[:-1]).sum(dim=1).clamp(min=0)
    first = (later @ images[0]).clamp(min=0)
    return float(((before + first) / 2).mean())


def temporal_flickering(frames: Frames) -> float:
    """VBench's: 1 less the mean absolute difference of neighbouring frames. Meant for prompts of still scenes."""
    changes = np.abs(np.diff(frames.astype(np.float32), axis=0))
    return 1 - float(changes.mean()) / _LEVELS


def motion_smoothness(flow: Flow) -> float | None:
    """Proxy of VBench's: every second frame is made anew from its neighbours, 1 less the mean absolute difference.

    VBench asks a network (AMT) for the frame in between; here both neighbours are led half the way by the flow between
    them. None for fewer than three frames.
    """
    luma = grey(flow.frames)
    odd = range(1, len(luma) - 1, 2)
    if not odd:
        return None
    misses = []
    for middle in odd:
        there, back = between(luma[middle - 1], luma[middle + 1]), between(luma[middle + 1], luma[middle - 1])
        earlier = follow(flow.frames[middle - 1].astype(np.float32), back / 2)
        later = follow(flow.frames[middle + 1].astype(np.float32), there / 2)
        misses.append(float(np.abs(flow.frames[middle] - (earlier + later) / 2).mean()))
    return 1 - sum(misses) / len(misses) / _LEVELS


def magnitude(flow: Flow) -> float:
    """Mean length of the flow in pixels of the clip per frame."""
    return float(np.mean([np.hypot(field[..., 0], field[..., 1]).mean() for field in flow.forward])) / flow.scale


def top_magnitudes(flow: Flow) -> list[float]:
    """Mean length of the longest 5 % of the flow, for each pair of frames, in pixels of the clip."""
    found = []
    for field in flow.forward:
        lengths = np.sort(np.hypot(field[..., 0], field[..., 1]), axis=None)
        found.append(float(lengths[-max(round(len(lengths) * _TOP), 1) :].mean()) / flow.scale)
    return found


def is_dynamic(flow: Flow) -> bool:
    """Proxy of VBench's dynamic degree: whether enough pairs of frames move enough.

    VBench asks RAFT for the flow. The figure for many clips is the share of those that are dynamic.
    """
    shorter_side = min(flow.frames.shape[1:3]) / flow.scale
    least = _DYNAMIC * shorter_side / _DYNAMIC_SIDE
    moving = sum(length > least for length in top_magnitudes(flow))
    return bool(moving >= round(len(flow.frames) * _DYNAMIC_PAIRS))
