"""Evaluate motion: the paper's metrics, VBench's temporal metrics, direction of movement, and a page with the results.

Independent of any host. Heavy libraries are imported where they are used and come with
``pip install "lib-animatediff[evaluate]"``.
"""

from .errors import EvaluationError

__all__ = ["EvaluationError"]
