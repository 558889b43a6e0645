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
    legs: tuple[int, ...] = (1000, 2000)  # steps at the end of each; every leg has a cosine over all steps so far
    batch: int = 6
    rate: float = 1e-3
    warm_up: int = 50
    average: float = 0.995
    largest_weight: float = 100.0
    timestep_power: float = 0.6  # motion is decided where the noise is large
    save_every: int = 100
    validation_every: int = 300


@dataclass(frozen=True)
class PanRecipe:
    """A motion LoRA from a few clips of one movement, as people train theirs."""

    clips: int = 48
    rank: int = 8
    steps: int = 200
    batch: int = 4
    rate: float = 1e-3
    warm_up: int = 10
    largest_weight: float = 100.0
    timestep_power: float = 0.6
    save_every: int = 100


@dataclass(frozen=True)
class StyleRecipe:
    """Stills of the second style, which the base model has never seen, for the personalised models."""

    name: str = "dusk"
    clips: int = 384


@dataclass(frozen=True)
class StyleLoraRecipe:
    """The style as a LoRA."""

    rank: int = 16
    alpha: float = 16.0
    steps: int = 800
    batch: int = 32
    rate: float = 4e-3
    warm_up: int = 20
    average: float = 0.99
    empty_captions: float = 0.2
    noise_offset: float = 0.3
    largest_weight: float = 12.0


@dataclass(frozen=True)
class FineTuneRecipe:
    """The style as a checkpoint of its own: every weight of the UNet, a little."""

    steps: int = 600
    batch: int = 32
    rate: float = 8e-4
    warm_up: int = 20
    average: float = 0.99
    empty_captions: float = 0.2
    noise_offset: float = 0.3
    largest_weight: float = 100.0


@dataclass(frozen=True)
class Recipe:
    """All stages."""

    seed: int = 0
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    latents: LatentsRecipe = field(default_factory=LatentsRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    style: StyleRecipe = field(default_factory=StyleRecipe)
    style_lora: StyleLoraRecipe = field(default_factory=StyleLoraRecipe)
    fine_tune: FineTuneRecipe = field(default_factory=FineTuneRecipe)
    motion: MotionRecipe = field(default_factory=MotionRecipe)
    pan: PanRecipe = field(default_factory=PanRecipe)

    def smoke(self, steps: int) -> Recipe:
        """The same recipe in a few small steps: it shows that everything runs, and nothing more."""
        return replace(
            self,
            vae=replace(self.vae, steps=steps, crop_steps=(steps + 1) // 2, batch=2, crop_batch=2, whitening=8),
            latents=replace(self.latents, clips=4),
            base=replace(self.base, steps=steps, batch=4, warm_up=1),
            style=replace(self.style, clips=4),
            style_lora=replace(self.style_lora, steps=steps, batch=4, warm_up=1),
            fine_tune=replace(self.fine_tune, steps=steps, batch=4, warm_up=1),
        )

    def about(self, *stages: str) -> dict[str, Any]:
        """What a result is labelled with: the seed and the figures of the stages that led to it."""
        return {name: value for name, value in asdict(self).items() if name in ("seed", *stages)}
