"""Rows that a host lays out in another order than ``(k b f)``: put in order for each UNet call, and back afterwards."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from .batch import index_batch
from .windowed_forward import count_rows

RowOrder = Callable[[int], "Sequence[int] | None"]


class BatchPermutation:
    """Computes a call whose rows lie in the host's order.

    Args:
        order: for a call of so many rows, the host's rows in the order ``(k b f)``; None if they lie so already.
    """

    def __init__(self, order: RowOrder) -> None:
        self._order = order

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What ``forward`` gives for these arguments, in the host's order.

        Raises:
            ClipError: what ``order`` raises for rows that are not whole clips.
        """
        rows = count_rows(args, kwargs)
        order = self._order(rows)
        if order is None:
            return forward(*args, **kwargs)
        index = torch.tensor(order)
        output = forward(*index_batch(args, index, rows), **index_batch(kwargs, index, rows))
        return index_batch(output, index.argsort(), rows)
