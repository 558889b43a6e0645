"""Every figure of the recipe in one place, and its small version for a smoke run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

from tools.pocket.recipe import TrainerRecipe, VaeRecipe

SIZE = 128  # pixels


# Crops around the subject first, whole pictures at the end. Batches are those of all processes together, as below.
VAE = VaeRecipe(
    styles=("plain", "pastel", "plain", "ink"),
    crop_steps=2200,
    steps=2320,
    crop=64,
    crop_batch=8,
    batch=8,
    crop_rate=2e-3,
    rate=5e-4,
    average=0.995,
    whitening=256,
)


@dataclass(frozen=True)
class LatentsRecipe:
    """Clips of the plain style, encoded once for the base model and the motion module."""

    clips: int = 2048
    bfloat16: bool = True


@dataclass(frozen=True)
class ProbeRecipe:
    """The judge: a small classifier that has only seen drawn pictures."""

    pictures: int = 12000
    steps: int = 2400
    batch: int = 64
    rate: float = 2e-3


@dataclass(frozen=True)
class StillsRecipe:
    """How a UNet learns from stills."""

    steps: int = 6000
    rate: float = 1e-3
    batch: int = 32
    warm_up: int = 100
    average: float = 0.998
    empty_captions: float = 0.1
    plain_captions: float = 0.5  # the others hold synonyms
    short_tokens: int = 24
    long_share: float = 0.1  # of the steps, at the end, that see all 77 tokens
    largest_weight: float = 100.0
    subject_weight: float = 3.0  # how much more the subject's surroundings weigh than the scenery
    noise_offset: float = 0.0


@dataclass(frozen=True)
class StyleRecipe(StillsRecipe):
    """A style that the base model has never seen, learned mildly, so that no heading is forgotten."""

    style: str = "pastel"
    clips: int = 192
    warm_up: int = 20
    average: float = 0.98
    empty_captions: float = 0.2
    long_share: float = 1.0
    largest_weight: float = 12.0
    noise_offset: float = 0.2
    rank: int = 16  # of a LoRA
    alpha: float = 16.0


@dataclass(frozen=True)
class InversionRecipe:
    """A textual inversion: what it shows, and captions do not say."""

    shows: tuple[tuple[str, str], ...] = (("time", "night"), ("weather", "snow"))
    vectors: int = 2
    steps: int = 400
    batch: int = 16
    rate: float = 2e-2
    warm_up: int = 20
    average: float = 0.98
    largest_weight: float = 100.0


@dataclass(frozen=True)
class MotionRecipe(TrainerRecipe):
    """The motion module, first on every second frame, at the positions that the frames have in the clip.

    A subject then goes twice as far from frame to frame, and a step costs half. Heads begin with neighbouring frames
    (`lib_animatediff.training.local_heads`), subjects weigh more than scenery, and most timesteps are noisy ones, where
    the way of a subject is decided. Without all these, 12,000 clips gave frames that agree, and nothing moved.
    """

    steps: int = 2200
    batch: int = 3  # of each process
    warm_up: int = 50
    average: float = 0.995
    rate: float = 2e-3
    timestep_power: float = 0.3
    kind: str = "v2"
    frames: int = 8
    stride: int = 2
    moving_weight: float = 8.0
    validation_every: int = 800
    shown: tuple[str, ...] = (
        "a red car moving left in a town",
        "a blue bird moving up in the hills",
        "a green ball bouncing by the sea",
    )


@dataclass(frozen=True)
class SmoothRecipe(MotionRecipe):
    """The same motion module, which goes on with all frames."""

    steps: int = 1200
    rate: float = 1.5e-3
    timestep_power: float = 0.35
    frames: int = 16
    stride: int = 1


@dataclass(frozen=True)
class FastRecipe(TrainerRecipe):
    """The motion module for 4 to 8 steps of an LCM sampler."""

    steps: int = 500
    batch: int = 3  # of each process
    warm_up: int = 20
    average: float = 0.95
    rate: float = 3e-4
    timestep_power: float = 0.8
    cfg: float = 3.0  # of the clips that it learns to make without CFG


@dataclass(frozen=True)
class CameraRecipe(TrainerRecipe):
    """A motion LoRA from a few clips of one movement, as people train theirs."""

    steps: int = 350
    batch: int = 2  # of each process
    warm_up: int = 20
    average: float = 0.98
    rate: float = 2e-3
    rank: int = 16
    clips: int = 72


@dataclass(frozen=True)
class Recipe:
    """All stages."""

    seed: int = 0
    processes: int = 2  # which draw their own parts of a batch, so that the result depends on their number
    vae: VaeRecipe = VAE
    latents: LatentsRecipe = field(default_factory=LatentsRecipe)
    probe: ProbeRecipe = field(default_factory=ProbeRecipe)
    base: StillsRecipe = field(default_factory=StillsRecipe)
    lora: StyleRecipe = StyleRecipe(style="pastel", steps=600, rate=3e-3)
    fine_tune: StyleRecipe = StyleRecipe(style="ink", steps=300, rate=5e-4)
    inversion: InversionRecipe = InversionRecipe()
    motion: MotionRecipe = field(default_factory=MotionRecipe)
    smooth: SmoothRecipe = field(default_factory=SmoothRecipe)
    fast: FastRecipe = field(default_factory=FastRecipe)
    camera: CameraRecipe = field(default_factory=CameraRecipe)

    def smoke(self, steps: int) -> Recipe:
        """The same recipe in a few small steps: it shows that everything runs, and nothing more."""
        trainer: dict[str, Any] = {"batch": 1, "warm_up": 1, "validation_every": steps, "validation_clips": 1}
        return replace(
            self,
            processes=1,
            vae=replace(self.vae, steps=steps, crop_steps=(steps + 1) // 2, batch=2, crop_batch=2, whitening=8),
            latents=replace(self.latents, clips=4),
            probe=replace(self.probe, steps=steps, pictures=64, batch=4),
            base=replace(self.base, steps=steps, batch=4, warm_up=1),
            lora=replace(self.lora, steps=steps, batch=4, warm_up=1, clips=4, rank=2),
            fine_tune=replace(self.fine_tune, steps=steps, batch=4, warm_up=1, clips=4),
            inversion=replace(self.inversion, shows=(), steps=steps, batch=2),
            motion=replace(self.motion, steps=steps, shown=(), **trainer),
            smooth=replace(self.smooth, steps=steps, shown=(), **trainer),
            fast=replace(self.fast, steps=steps, **trainer),
            camera=replace(self.camera, steps=steps, clips=4, rank=2, **trainer),
        )

    def about(self, *stages: str) -> dict[str, Any]:
        """What a result is labelled with: the seed and the figures of the stages that led to it."""
        return {name: value for name, value in asdict(self).items() if name in ("seed", "processes", *stages)}
