"""Beta schedules that motion modules were trained on.

A motion module expects the noise levels of its own training, which differ from those of Stable Diffusion; with the
wrong table, clips turn grey. Schedule names follow diffusers; LDM calls the same tables "sqrt_linear" and "linear".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

BETA_START = 0.00085  # Stable Diffusion's own, kept by every AnimateDiff training configuration
BETA_END = 0.012  # likewise
TRAINING_STEPS = 1000  # likewise


@dataclass(frozen=True)
class BetaSchedule:
    """Growth of the noise variance over the training steps.

    ``linear`` spaces beta evenly (AnimateDiff v1 to v3: sigma_max 25.15); ``scaled_linear`` spaces its square root
    evenly (Stable Diffusion: sigma_max 14.61).
    """

    name: Literal["linear", "scaled_linear"]
    beta_start: float = BETA_START
    beta_end: float = BETA_END
    steps: int = TRAINING_STEPS

    def betas(self) -> Tensor:
        """Variance added at each training step: float64, CPU, shape ``(steps,)``."""
        if self.name == "linear":
            return torch.linspace(self.beta_start, self.beta_end, self.steps, dtype=torch.float64)
        return torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=torch.float64) ** 2

    def alphas_cumprod(self) -> Tensor:
        """Share of the signal variance left after each step: new float32 CPU tensor, shape ``(steps,)``."""
        return torch.cumprod(1.0 - self.betas(), dim=0).to(torch.float32)


LINEAR = BetaSchedule("linear")
SCALED_LINEAR = BetaSchedule("scaled_linear")
