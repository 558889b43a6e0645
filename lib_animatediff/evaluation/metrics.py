"""The metrics by their published formulas. Embeddings are unit vectors, ``n d``, float32.

Text, domain and smoothness are those of the AnimateDiff paper (arXiv 2307.04725, table 1), the others those of VBench
(arXiv 2311.17982). Proxies use OpenCV's flow in place of a network for flow or for frame interpolation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lib_animatediff.video.optical_flow import between, follow, grey

from .flow import Flow

if TYPE_CHECKING:
    from torch import Tensor

    from .flow import Frames

_LEVELS = 255
_TOP = 0.05  # share of the pixels with the most motion
_DYNAMIC, _DYNAMIC_SIDE = 6.0, 256  # pixels per frame, for images with this shorter side, as in VBench
_DYNAMIC_PAIRS = 4 / 16  # share of the frames, as in VBench


def text_score(images: Tensor, text: Tensor) -> float:
    """100 times the mean cosine similarity of frames and prompt, ``d``."""
    return 100 * float((images @ text).mean())


def domain_score(images: Tensor, references: Tensor) -> float:
    """100 times the mean cosine similarity of frames and stills that the model renders without motion."""
    return 100 * float((images @ references.T).mean())


def smoothness(images: Tensor) -> float:
    """100 times the mean cosine similarity of consecutive frames."""
    return 100 * float((images[1:] * images[:-1]).sum(dim=1).mean())


def smoothness_of_all_pairs(images: Tensor) -> float:
    """100 times the mean cosine similarity of all pairs of frames."""
    n = len(images)
    off_diagonal = (images @ images.T).sum() - images.square().sum()
    return 100 * float(off_diagonal) / (n * (n - 1))


def consistency(images: Tensor) -> float:
    """VBench's subject consistency (with DINO) or background consistency (with CLIP), 0 to 1.

    Mean cosine similarity of each frame to the previous and to the first one, where negative values count as 0.
    """
    later = images[1:]
    before = (later * images[:-1]).sum(dim=1).clamp(min=0)
    first = (later @ images[0]).clamp(min=0)
    return float(((before + first) / 2).mean())


def temporal_flickering(frames: Frames) -> float:
    """VBench's temporal flickering: 1 minus the mean absolute difference of consecutive frames, for still scenes."""
    changes = np.abs(np.diff(frames.astype(np.float32), axis=0))
    return 1 - float(changes.mean()) / _LEVELS


def motion_smoothness(flow: Flow) -> float | None:
    """Proxy of VBench's motion smoothness: 1 minus the mean absolute error of interpolating every second frame.

    VBench interpolates with a network (AMT); this proxy warps both neighbours halfway along their flow. None for fewer
    than three frames.
    """
    luma = [grey(frame) for frame in flow.frames]
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
    """Mean length of the flow, in pixels of the clip per frame."""
    return float(np.mean([np.hypot(field[..., 0], field[..., 1]).mean() for field in flow.forward])) / flow.scale


def top_magnitudes(flow: Flow) -> list[float]:
    """Mean length of the longest 5 % of the flow for each pair of frames, in pixels of the clip."""
    found = []
    for field in flow.forward:
        lengths = np.sort(np.hypot(field[..., 0], field[..., 1]), axis=None)
        found.append(float(lengths[-max(round(len(lengths) * _TOP), 1) :].mean()) / flow.scale)
    return found


def is_dynamic(flow: Flow) -> bool:
    """Proxy of VBench's dynamic degree: whether enough pairs of frames contain enough motion.

    VBench computes flow with RAFT. The metric of several clips is the share of dynamic ones.
    """
    shorter_side = min(flow.frames.shape[1:3]) / flow.scale
    least = _DYNAMIC * shorter_side / _DYNAMIC_SIDE
    moving = sum(length > least for length in top_magnitudes(flow))
    return bool(moving >= round(len(flow.frames) * _DYNAMIC_PAIRS))
