"""Cases of a matrix: `make test` takes every value of every axis at least once, `make test-all` every combination."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest

Places = tuple[int, ...]


def in_matrix(*case):
    """One case that only `make test-all` takes."""
    return pytest.param(*case, marks=pytest.mark.matrix)


def only_at(cases: Iterable, *places: int) -> list:
    """Cases of which `make test` takes those at some places; the others are marked as `matrix`."""
    return [
        case if place in places else in_matrix(*(case if isinstance(case, tuple) else (case,)))
        for place, case in enumerate(cases)
    ]


def every_once(*axes: Iterable, more: Callable[[Places], bool] = lambda places: False) -> list:
    """The product of some axes for `parametrize`; all but a diagonal through it, and `more`, is marked as `matrix`."""
    lists = [list(axis) for axis in axes]
    diagonal = {tuple(number % len(axis) for axis in lists) for number in range(max(map(len, lists)))}
    return [
        case if places in diagonal or more(places) else in_matrix(*case)
        for places, case in zip(
            itertools.product(*(range(len(axis)) for axis in lists)), itertools.product(*lists), strict=True
        )
    ]


def both_ends(*axes: Iterable) -> list:
    """The product of some axes for `parametrize`; all but the first and the last combination are marked as `matrix`.

    For what other tests show for each value, such as the kinds of context windows.
    """
    cases = list(itertools.product(*axes))
    return [cases[0], *(in_matrix(*case) for case in cases[1:-1]), cases[-1]]
