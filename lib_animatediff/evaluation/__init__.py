"""What motion is worth, measured: the paper's metrics, VBench's temporal ones, direction, and a page that shows it.

Nothing here knows a host program. Heavy libraries are imported where they are used; they come with
``pip install 'lib-animatediff[evaluate]'``.
"""

from .errors import EvaluationError

__all__ = ["EvaluationError"]
