"""Stateless randomness: all random values of an example are functions of the seed and the example's number.

Numbers count through the whole training, for any number of devices. A resumed run therefore needs no generator state,
and two devices with half the batch see the same data as one device with the whole.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import torch
from torch import Tensor


def stream(*names: object) -> torch.Generator:
    """A CPU generator whose seed is a hash of names and numbers."""
    digest = hashlib.sha256("/".join(map(str, names)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Draws:
    """The random values of one example. Values with different names are independent.

    Attributes:
        seed: seed of the training.
        number: number of the example, counted over all devices since the start.
    """

    seed: int
    number: int

    def uniform(self, name: str) -> float:
        """Uniform in [0, 1)."""
        return float(torch.rand((), generator=stream(self.seed, name, self.number), dtype=torch.float64))

    def normal(self, name: str, shape: tuple[int, ...]) -> Tensor:
        """Standard normal, float32 on the CPU."""
        return torch.randn(shape, generator=stream(self.seed, name, self.number))

    def timestep(self, steps: int, power: float) -> int:
        """Timestep ``steps * u^power``, from 0 to ``steps - 1``."""
        return min(int(steps * self.uniform("timestep") ** power), steps - 1)


def example_numbers(step: int, *, batch: int, accumulation: int, process: int, processes: int) -> list[list[int]]:
    """Numbers of one step's examples on one device, a list for each accumulated batch."""
    first = step * batch * accumulation * processes
    starts = [first + (micro * processes + process) * batch for micro in range(accumulation)]
    return [list(range(start, start + batch)) for start in starts]
