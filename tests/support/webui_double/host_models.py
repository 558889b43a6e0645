"""Checkpoints as reForge and Forge hold them, around one UNet."""

from __future__ import annotations

import copy
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

STEPS = 1000


class NoiseLevels(nn.Module):
    """What samplers and the UNet of these hosts read: `sigmas` and `log_sigmas`."""

    prediction_type = "epsilon"

    def __init__(self) -> None:
        super().__init__()
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, STEPS, dtype=torch.float64) ** 2
        table = torch.cumprod(1 - betas, 0)
        self.set_sigmas(((1 - table) / table).sqrt())

    def set_sigmas(self, sigmas: Tensor) -> None:
        self.register_buffer("sigmas", sigmas.float())
        self.register_buffer("log_sigmas", sigmas.log().float())

    def timestep(self, sigma: Tensor) -> Tensor:
        return (sigma.log() - self.log_sigmas[:, None]).abs().argmin(0)


class Patcher:
    """The patcher of a UNet; clones share the model."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.model_options: dict[str, Any] = {"transformer_options": {}}
        self.preserved = 0

    def clone(self) -> Patcher:
        other = Patcher(self.model)
        other.model_options, other.preserved = copy.deepcopy(self.model_options), self.preserved
        return other

    def memory_required(self, shape: list[int]) -> int:
        return shape[0]

    def add_extra_preserved_memory_during_sampling(self, number: int) -> None:
        self.preserved += number


def forge(unet: nn.Module, **more: Any) -> Any:
    """A checkpoint of Forge."""
    model = SimpleNamespace(diffusion_model=unet, predictor=NoiseLevels(), computation_dtype=torch.float16)
    return SimpleNamespace(
        forge_objects=SimpleNamespace(unet=Patcher(model)),
        model_config=SimpleNamespace(ztsnr=False),
        get_learned_conditioning=lambda texts: ("conditions", texts),
        get_prompt_lengths_on_ui=lambda text: (len(text), 75),
        **more,
    )


def reforge(unet: nn.Module, **more: Any) -> Any:
    """A checkpoint of reForge: a shell of ldm's around the same things."""
    levels = NoiseLevels()
    model = SimpleNamespace(diffusion_model=unet, model_sampling=levels, manual_cast_dtype=None)
    return SimpleNamespace(
        model=SimpleNamespace(diffusion_model=unet),
        alphas_cumprod=1 / (levels.sigmas**2 + 1),
        forge_objects=SimpleNamespace(unet=Patcher(model)),
        **more,
    )
