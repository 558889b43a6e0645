"""Randomness without state: whatever an example needs is a function of the seed and the example's number.

Numbers run through the whole training, whatever the number of devices. So a resumed run needs no generator's state,
and two devices with half the batch see what one sees with the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def stream(*names: object) -> torch.Generator:
    """A generator on the CPU that is a function of names and numbers alone."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Draws:
    """What is random about one example; each quantity by its name, independent of the others.

    Attributes:
        seed: of the training.
        number: of the example, counted from the start of the training over all devices.
    """

    seed: int
    number: int

    def uniform(self, name: str) -> float:
        """From 0 to 1, without 1."""
        return float(torch.rand((), generator=stream(self.seed, name, self.number), dtype=torch.float64))

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal numbers, float32 on the CPU."""
        return torch.randn(shape, generator=stream(self.seed, name, self.number))

    def timestep(self, steps: int, power: float) -> int:
        """From 0 to ``steps - 1``: ``steps * u^power``."""
        return min(int(steps * self.uniform("timestep") ** power), steps - 1)


def example_numbers(step: int, *, batch: int, accumulation: int, process: int, processes: int) -> list[list[int]]:
    """Numbers of the examples of one step on one device, a list for each batch that is accumulated."""
    first = step * batch * accumulation * processes
    starts = [first + (micro * processes + process) * batch for micro in range(accumulation)]
    return [list(range(start, start + batch)) for start in starts]
