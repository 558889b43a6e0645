"""Every figure of the recipe in one place, and its small version for a smoke run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

BASE = ("vae", "latents", "base")  # the recipe's parts that the base model depends on


@dataclass(frozen=True)
class VaeRecipe:
    """Crops around the sprite first (most of a picture is background), then whole pictures."""

    styles: tuple[str, ...] = ("plain", "dusk")
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
class DecoderRecipe:
    """The decoder learns the second style's look; the encoder stays.

    A style that the encoder learns gets a corner of its own among the latents: a blue sprite's were turned around
    (cosine -0.2) on the darkest ground it knew, and neither base model nor motion module knew it again. One that lies
    between two grounds that it knows keeps every sprite's latents as they are on the plain one (cosine 0.9 and more).
    """

    styles: tuple[str, ...] = ("plain", "lilac")
    steps: int = 1500
    batch: int = 8
    rate: float = 1e-3
    noise: float = 0.2  # on the latents: those that a UNet samples are never quite those of a picture
    average: float = 0.99
    bfloat16: bool = True


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
class TrainerRecipe:
    """Settings of the project's own trainer, which all that it trains have."""

    steps: int
    batch: int
    warm_up: int
    average: float
    rate: float = 1e-3
    beta2: float = 0.99
    largest_weight: float = 100.0
    timestep_power: float = 0.6  # motion is decided where the noise is large
    save_every: int = 100
    validation_every: int = 500
    validation_clips: int = 8


@dataclass(frozen=True)
class MotionRecipe(TrainerRecipe):
    """The motion module. First the frames agree, then they move, then they move smoothly."""

    steps: int = 3500
    pauses: tuple[int, ...] = (1000, 2000)  # where the learning rate has fallen to 0, to start again further up
    batch: int = 6
    warm_up: int = 50
    average: float = 0.995
    kind: str = "v2"
    shown: tuple[str, ...] = ("a red disc moving left", "a blue square moving right")  # to look at while it trains


@dataclass(frozen=True)
class FastRecipe(TrainerRecipe):
    """The motion module for 4 steps of an LCM sampler."""

    steps: int = 600
    batch: int = 6
    warm_up: int = 20
    average: float = 0.95
    rate: float = 3e-4
    timestep_power: float = 0.8
    optimizer: str = "muon"
    cfg: float = 3.0  # of the clips that it learns to make without CFG
    clips: int = 512


@dataclass(frozen=True)
class PanRecipe(TrainerRecipe):
    """A motion LoRA from a few clips of one movement, as people train theirs."""

    steps: int = 700
    batch: int = 4
    warm_up: int = 20
    average: float = 0.98
    rate: float = 2e-3
    rank: int = 16
    clips: int = 48


@dataclass(frozen=True)
class ControlRecipe(TrainerRecipe):
    """A ControlNet that puts the sprite where its hint has a mark."""

    steps: int = 500
    batch: int = 24
    warm_up: int = 50
    average: float = 0.99
    timestep_power: float = 0.8
    clips: int = 256


@dataclass(frozen=True)
class SparseRecipe(TrainerRecipe):
    """A SparseCtrl encoder that carries given images to the other frames."""

    steps: int = 500
    batch: int = 4
    warm_up: int = 50
    average: float = 0.99
    clips: int = 256


@dataclass(frozen=True)
class CameraRecipe(TrainerRecipe):
    """A CameraCtrl model that moves the camera in front of the world: an hour of one processor."""

    steps: int = 2400
    batch: int = 4
    warm_up: int = 30
    average: float = 0.99
    rate: float = 2e-3
    timestep_power: float = 0.35  # a movement is decided where the noise is largest
    moving_weight: float = 4.0  # the sprite is small
    optimizer: str = "muon"
    save_every: int = 50
    validation_every: int = 300
    validation_clips: int = 4
    clips: int = 512


@dataclass(frozen=True)
class StyleRecipe:
    """Stills of the second style, which the base model has never seen, for the personalised models."""

    name: str = "lilac"
    clips: int = 384


@dataclass(frozen=True)
class StillsRecipe:
    """How the base model learns the style from stills: mildly, so that it forgets no heading."""

    steps: int
    rate: float
    batch: int = 32
    warm_up: int = 20
    average: float = 0.98
    empty_captions: float = 0.2
    noise_offset: float = 0.2
    largest_weight: float = 12.0


@dataclass(frozen=True)
class StyleLoraRecipe(StillsRecipe):
    """The style as a LoRA."""

    steps: int = 600
    rate: float = 3e-3
    rank: int = 16
    alpha: float = 16.0


@dataclass(frozen=True)
class FineTuneRecipe(StillsRecipe):
    """The style as a checkpoint of its own: every weight of the UNet, a little."""

    steps: int = 300
    rate: float = 5e-4


@dataclass(frozen=True)
class Recipe:
    """All stages."""

    seed: int = 0
    vae: VaeRecipe = field(default_factory=VaeRecipe)
    decoder: DecoderRecipe = field(default_factory=DecoderRecipe)
    latents: LatentsRecipe = field(default_factory=LatentsRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    style: StyleRecipe = field(default_factory=StyleRecipe)
    style_lora: StyleLoraRecipe = field(default_factory=StyleLoraRecipe)
    fine_tune: FineTuneRecipe = field(default_factory=FineTuneRecipe)
    motion: MotionRecipe = field(default_factory=MotionRecipe)
    fast: FastRecipe = field(default_factory=FastRecipe)
    pan: PanRecipe = field(default_factory=PanRecipe)
    control: ControlRecipe = field(default_factory=ControlRecipe)
    sparse: SparseRecipe = field(default_factory=SparseRecipe)
    camera: CameraRecipe = field(default_factory=CameraRecipe)

    def smoke(self, steps: int) -> Recipe:
        """The same recipe in a few small steps: it shows that everything runs, and nothing more."""
        trainer: dict[str, Any] = {"batch": 1, "warm_up": 1, "validation_every": steps}
        return replace(
            self,
            vae=replace(self.vae, steps=steps, crop_steps=(steps + 1) // 2, batch=2, crop_batch=2, whitening=8),
            decoder=replace(self.decoder, steps=steps, batch=2),
            latents=replace(self.latents, clips=4),
            base=replace(self.base, steps=steps, batch=4, warm_up=1),
            style=replace(self.style, clips=4),
            style_lora=replace(self.style_lora, steps=steps, batch=4, warm_up=1),
            fine_tune=replace(self.fine_tune, steps=steps, batch=4, warm_up=1),
            motion=replace(self.motion, steps=steps, pauses=((steps + 1) // 2,), shown=(), **trainer),
            fast=replace(self.fast, steps=steps, clips=4, **trainer),
            pan=replace(self.pan, steps=steps, clips=4, rank=2, **trainer),
            control=replace(self.control, steps=steps, clips=4, **trainer),
            sparse=replace(self.sparse, steps=steps, clips=4, **trainer),
            camera=replace(self.camera, steps=steps, clips=4, **trainer),
        )

    def about(self, *stages: str) -> dict[str, Any]:
        """What a result is labelled with: the seed and the figures of the stages that led to it."""
        return {name: value for name, value in asdict(self).items() if name in ("seed", *stages)}
