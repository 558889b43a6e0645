"""What can be wrong with an evaluation."""

from __future__ import annotations

from motion_module import AnimateDiffError


class EvaluationError(AnimateDiffError):
    """An evaluation cannot be made as asked for."""
