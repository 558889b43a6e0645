"""Every figure of the recipe in one place, and its small version for a smoke run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class VaeRecipe:
    """Crops around the sprite first (most of a picture is background), then whole pictures."""

    crop_steps: int = 700
    steps: int = 1500
    crop: int = 32
    crop_batch: int = 16
    batch: int = 8
    crop_rate: float = 2e-3
    rate: float = 1.5e-3
    average: float = 0.99
    bfloat16: bool = True
    whitening: int = 512  # pictures


@dataclass(frozen=True)
class LatentsRecipe:
    """Clips of the plain style, encoded once for the base model and the motion module."""

    clips: int = 768
    bfloat16: bool = True


@dataclass(frozen=True)
class BaseRecipe:
    """The text-to-image UNet. The heading is the last concept to appear, and then appears fast."""

    steps: int = 3000
    batch: int = 32
    rate: float = 1e-3
    warm_up: int = 100
    average: float = 0.998
    empty_captions: float = 0.1
    short_tokens: int = 16
    long_share: float = 0.15  # of the steps, at the end, that see all 77 tokens
    largest_weight: float = 100.0


@dataclass(frozen=True)
class MotionRecipe:
    """The motion module. First the frames agree, then they move, then they move smoothly."""

    kind: str = "v2"
    steps: int = 1000
    batch: int = 6
    rate: float = 1e-3
    warm_up: int = 50
    average: float = 0.995
    largest_weight: float = 100.0
    timestep_power: float = 0.6  # motion is decided where the noise is large
    save_every: int = 100
    validation_every: int = 300


@dataclass(frozen=True)
class Recipe:
    """All stages."""

    seed: int = 0
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    latents: LatentsRecipe = field(default_factory=LatentsRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    motion: MotionRecipe = field(default_factory=MotionRecipe)

    def smoke(self, steps: int) -> Recipe:
        """The same recipe in a few small steps: it shows that everything runs, and nothing more."""
        return replace(
            self,
            vae=replace(self.vae, steps=steps, crop_steps=(steps + 1) // 2, batch=2, crop_batch=2, whitening=8),
            latents=replace(self.latents, clips=4),
            base=replace(self.base, steps=steps, batch=4, warm_up=1),
        )

    def about(self, *stages: str) -> dict[str, Any]:
        """What a result is labelled with: the seed and the figures of the stages that led to it."""
        return {name: value for name, value in asdict(self).items() if name in ("seed", *stages)}
