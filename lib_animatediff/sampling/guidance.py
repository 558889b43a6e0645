"""Classifier-free guidance in an interval of the steps only (Kynkaanniemi et al., arXiv 2404.07724).

eps = u + w (c - u) inside the interval, and eps = c outside, where uncond need not be computed.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GuidanceInterval:
    """The part of the sampling steps in which guidance acts.

    Attributes:
        start, end: shares of the steps, 0 to 1. A step begins at the share of the steps before it.
    """

    start: float = 0.0
    end: float = 1.0

    @property
    def is_everywhere(self) -> bool:
        """Whether guidance acts at every step."""
        return self.start <= 0 and self.end >= 1

    def is_guided(self, progress: float) -> bool:
        """Whether guidance acts at a step that begins at this share of the steps."""
        return self.start <= progress and (progress < self.end or self.end >= 1)
