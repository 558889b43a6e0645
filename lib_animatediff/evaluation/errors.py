"""Errors of an evaluation."""

from __future__ import annotations

from motion_module import AnimateDiffError


class EvaluationError(AnimateDiffError):
    """The evaluation cannot be carried out."""
