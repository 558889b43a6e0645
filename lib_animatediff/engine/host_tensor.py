"""Small tensors that the host makes: indices, weights and amounts, copied to each device once.

A tensor that a list makes on a graphics card lets the host wait for all that the card still has to compute. These ones
are copied from pinned memory, which does not wait, and kept for the calls that follow.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

_Kept = TypeVar("_Kept")


class HostTensor:
    """A tensor in main memory with a copy on each device that asked for it. Its values never change.

    Args:
        values: numbers, integers becoming int64 and others float32; or a tensor in main memory.
    """

    def __init__(self, values: Sequence[int] | Sequence[float] | Tensor) -> None:
        with torch.inference_mode(False):  # so that a later call may compute gradients with it
            self._host = values if isinstance(values, Tensor) else torch.tensor(values)
        self._copies: dict[torch.device, Tensor] = {}

    def __len__(self) -> int:
        return len(self._host)

    def on(self, device: torch.device) -> Tensor:
        """The tensor on a device."""
        if device not in self._copies:
            with torch.inference_mode(False):
                self._copies[device] = copied(self._host, device)
        return self._copies[device]

    def parts(self, sizes: Sequence[int]) -> list[HostTensor]:
        """Consecutive parts of these lengths, whose copies are views of this tensor's copy."""
        begins = [sum(sizes[:number]) for number in range(len(sizes))]
        return [_Part(self, slice(begin, begin + size)) for begin, size in zip(begins, sizes, strict=True)]


class _Part(HostTensor):
    """A part of another one."""

    def __init__(self, whole: HostTensor, at: slice) -> None:
        super().__init__(whole._host[at])
        self._whole = whole
        self._at = at

    def on(self, device: torch.device) -> Tensor:
        """The part on a device."""
        return self._whole.on(device)[self._at]


class Kept(dict[Hashable, _Kept]):
    """What was made for some key, for the calls that need it again; the oldest is dropped beyond ``most``."""

    def __init__(self, most: int = 64) -> None:
        super().__init__()
        self._most = most

    def get_or(self, key: Hashable, make: Callable[[], _Kept]) -> _Kept:
        """The value of a key, made if it is not there."""
        if key not in self:
            if len(self) >= self._most:
                del self[next(iter(self))]
            self[key] = make()
        return self[key]


def copied(tensor: Tensor, device: torch.device) -> Tensor:
    """A tensor in main memory on a device. The host does not wait for the copy to a graphics card."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)
