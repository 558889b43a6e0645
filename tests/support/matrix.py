"""Cases of a matrix: `make test` takes one of each rule, `make test-all` takes all."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def first_of(cases: Iterable, keep: int = 1) -> list:
    """Cases for `parametrize`, of which those after the first few are marked as `matrix`."""
    listed = list(cases)
    return listed[:keep] + [in_matrix(case) for case in listed[keep:]]


def in_matrix(case):
    """One case that only `make test-all` takes."""
    return pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.matrix)
