"""Which sampling step a call of the UNet belongs to."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from motion_module.schedules import TRAINING_STEPS


class Steps:
    """Numbers the steps and says how far the sampling is.

    Timesteps are numbered in the order in which they come up. So calls at one timestep, for cond and uncond say, share
    a step, however many there are.

    Attributes:
        current: the step, if the host says it; with None it follows the timestep.
        progress: how much of the sampling is done, from 0 to 1, if the host says it; with None it follows the timestep,
            from the noisiest one of the training to the cleanest.
    """

    def __init__(self) -> None:
        self.current: int | None = None
        self.progress: float | None = None
        self._numbers: dict[tuple[float, ...], int] = {}

    def of(self, timestep: Any) -> int:
        """The step of a call with this timestep argument: a number, or a tensor with one for each row."""
        if self.current is not None:
            return self.current
        # How often a value comes depends on the number of rows in the call.
        return self._numbers.setdefault(tuple(sorted(set(_values(timestep)))), len(self._numbers))

    def progress_at(self, timestep: Any) -> float:
        """How much of the sampling is done at this timestep, from 0 to 1."""
        if self.progress is not None:
            return self.progress
        return 1 - min(max(_values(timestep)) / (TRAINING_STEPS - 1), 1.0)


def _values(timestep: Any) -> list[float]:
    return timestep.flatten().tolist() if isinstance(timestep, Tensor) else [float(timestep)]
