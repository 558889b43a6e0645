"""What is wrong with the weights of a file, by its header, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .files.safe_unpickler import TensorHeader

_MOST_SHOWN = 3
_LONGEST_SHOWN = 130  # characters: keys in a file can be of any length and contain line breaks


def problems_of(tensors: Mapping[str, TensorHeader], expected: Mapping[str, tuple[int, ...]]) -> list[str]:
    """What differs from the expected names and shapes, and weights that are no floats; empty: nothing."""
    problems = [f"{key} is missing" for key in expected if key not in tensors]
    problems += [f"{key} is unexpected" for key in tensors if key not in expected]
    present = [(key, tensors[key], shape) for key, shape in expected.items() if key in tensors]
    problems += [f"{key} has shape {t.shape} instead of {shape}" for key, t, shape in present if t.shape != shape]
    problems += [
        f"{key} has dtype {t.dtype} instead of a float"
        for key, t, _ in present
        if not t.dtype.startswith(("float", "bfloat"))
    ]
    return problems


def in_words(problems: Sequence[str]) -> str:
    """The first problems as a clause."""
    shown = "; ".join(" ".join(problem.split())[:_LONGEST_SHOWN] for problem in problems[:_MOST_SHOWN])
    more = len(problems) - _MOST_SHOWN
    return f"{shown}; and {more} more" if more > 0 else shown
