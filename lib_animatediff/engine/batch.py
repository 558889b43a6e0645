"""Index the rows of all arguments of a UNet call, and combine the rows of its outputs.

A tensor belongs to the batch if its first dimension equals the number of rows, anywhere in nested lists, tuples, dicts
and dataclasses (conditions, residuals of a ControlNet, a diffusers output). Everything else is passed on unchanged.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from .call import UNetCall, count_rows
from .host_tensor import HostTensor, Kept

RowOrder = Callable[[int], "Sequence[int] | None"]
"""From the number of rows of a call: the host's rows in the order ``(k b f)``, or None if they are in that order."""


def index_batch(given: Any, index: HostTensor, rows: int) -> Any:
    """``given`` with only the rows of ``index``, in new containers; ``rows`` is the number of rows of the call."""
    return _map_rows(given, rows, lambda tensor: tensor.index_select(0, index.on(tensor.device)))


class BatchPermutation:
    """Computes a call whose rows are in the host's own order.

    Args:
        order: see `RowOrder`.
        call: records the arguments in the order ``(k b f)``; None: another forward inside this one records them.
    """

    def __init__(self, order: RowOrder, call: UNetCall | None = None) -> None:
        self._order = order
        self._call = call
        self._indices: Kept[tuple[HostTensor, HostTensor]] = Kept()

    def __call__(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The output of ``forward`` for these arguments, in the host's order.

        Raises:
            ClipError: raised by ``order`` for rows that are not whole clips.
        """
        rows = count_rows(args, kwargs)
        order = self._order(rows)
        if order is None:
            return self._run(forward, args, kwargs)
        index, inverse = self._indices.get_or(tuple(order), lambda: _permutation(order))
        output = self._run(forward, index_batch(args, index, rows), index_batch(kwargs, index, rows))
        return index_batch(output, inverse, rows)

    def _run(self, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if self._call is not None:
            self._call.begin(args, kwargs)
        return forward(*args, **kwargs)


def _permutation(order: Sequence[int]) -> tuple[HostTensor, HostTensor]:
    return HostTensor(order), HostTensor(torch.tensor(order).argsort())


class Fusion:
    """Weighted average of outputs, each for some of the rows: sum(w * out) / sum(w).

    Sums have the size of the outputs and at least float32.

    Args:
        weights: sum of the weights of each row.
        on_cpu: keep the sums in main memory.
    """

    def __init__(self, weights: HostTensor, *, on_cpu: bool = False) -> None:
        self._weights = weights
        self._on_cpu = on_cpu
        self._sums: list[Tensor] = []
        self._last: tuple[Any, int] = (None, 0)

    def add(self, output: Any, index: HostTensor, weights: HostTensor) -> None:
        """Add an output for the rows of ``index``, with the weight of each row."""
        parts = _tensors(output, len(index))
        if not self._sums:
            self._sums = [self._zeros(part) for part in parts]
        for total, part in zip(self._sums, parts, strict=True):
            weighted = part.to(total) * _along_rows(weights, total)
            total.index_add_(0, index.on(total.device), weighted)
        self._last = (output, len(index))

    def result(self) -> Any:
        """The average, in the container type, dtype and device of the outputs. Ends the fusion."""
        output, rows = self._last
        sums = iter(self._sums)

        def average(part: Tensor) -> Tensor:
            total = next(sums)
            return total.div_(_along_rows(self._weights, total)).to(part)

        return _map_rows(output, rows, average)

    def _zeros(self, part: Tensor) -> Tensor:
        return torch.zeros(
            len(self._weights),
            *part.shape[1:],
            dtype=torch.promote_types(part.dtype, torch.float32),
            device="cpu" if self._on_cpu else part.device,
        )


def _along_rows(values: HostTensor, like: Tensor) -> Tensor:
    return values.on(like.device).to(like.dtype).reshape(-1, *[1] * (like.dim() - 1))


def _tensors(tree: Any, rows: int) -> list[Tensor]:
    found: list[Tensor] = []

    def note(tensor: Tensor) -> Tensor:
        found.append(tensor)
        return tensor

    _map_rows(tree, rows, note)
    return found


def _map_rows(tree: Any, rows: int, change: Callable[[Tensor], Tensor]) -> Any:
    """A copy of nested containers in which ``change`` is applied to tensors whose first dimension is ``rows``."""
    if isinstance(tree, Tensor):
        return change(tree) if tree.dim() and tree.shape[0] == rows else tree
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields = {field.name: getattr(tree, field.name) for field in dataclasses.fields(tree) if field.init}
        return dataclasses.replace(tree, **{name: _map_rows(value, rows, change) for name, value in fields.items()})
    if isinstance(tree, dict):
        changed = copy.copy(tree)
        changed.update({key: _map_rows(value, rows, change) for key, value in tree.items()})
        return changed
    if isinstance(tree, (list, tuple)):
        items = [_map_rows(value, rows, change) for value in tree]
        return type(tree)(*items) if hasattr(tree, "_fields") else type(tree)(items)
    return tree
