"""Small parts that a training is made of: a base model of width 32, captions as numbers, clips that move."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from support import hosts
from support.motion_files import random_motion_state
from torch import Tensor

from lib_animatediff.training import Base, MemorySource, TrainingSettings, train
from lib_animatediff.training.settings import FOR_MOTION, OFFICIAL_RANKS

ROOT = Path(__file__).parents[2]
WIDTHS = (64, 32, 32, 32)  # groups of one channel alone would cancel a bias, and Adam make steps of the rounding
CONTEXT = 16
TOKENS = 5
SIDE = 16  # of latents: the lowest level is then 2 x 2, the least that a GroupNorm of 32 channels can tell apart


def small_unet(**other):
    """A diffusers UNet of Stable Diffusion 1.5's topology at its smallest, every weight random."""
    from diffusers import UNet2DConditionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        shape = {"block_out_channels": WIDTHS, "cross_attention_dim": CONTEXT} | other
        return hosts.no_zero_weights(UNet2DConditionModel(**shape))


def tiny_unet():
    """Two resolutions of one block each: for all that does not read a motion module's file. Three times as fast."""
    return small_unet(
        block_out_channels=WIDTHS[:2],
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
    )


def small_ldm_unet():
    """The LDM UNet, for processes that should not take long to start: diffusers alone takes seconds."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return hosts.no_zero_weights(hosts.new_ldm_unet(64, CONTEXT, **hosts.SD15 | {"channel_mult": [1, 1, 1, 1]}))


def small_vae(seed: int = 0):
    """A diffusers VAE of factor 8."""
    from diffusers import AutoencoderKL

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return AutoencoderKL(
            block_out_channels=WIDTHS,
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ).eval()


class Encoder:
    """A condition for each caption, a function of its letters; remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, captions: list[str]) -> Tensor:
        self.asked += captions
        seeds = [sum(ord(letter) * 31**place for place, letter in enumerate(caption)) % 2**31 for caption in captions]
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return torch.stack([torch.randn(TOKENS, CONTEXT, generator=generator) for generator in generators])


def small_base(unet=None, **more) -> Base:
    """The base model that trainings here run on."""
    return Base(unet or tiny_unet(), Encoder(), **more)


def latent_clips(count: int = 4, frames: int = 6, seed: int = 0) -> list[tuple[Tensor, str]]:
    """Latents that drift from frame to frame."""
    generator = torch.Generator().manual_seed(seed)
    clips = []
    for number in range(count):
        first, drift = (torch.randn(1, 4, SIDE, SIDE, generator=generator) for _ in range(2))
        clips.append((first + drift * torch.linspace(0, 1, frames).view(-1, 1, 1, 1), f"clip {number}"))
    return clips


def settings(output: Path, **more) -> TrainingSettings:
    """A training of a few steps."""
    values = {"frames": 2, "stride": 2, "steps": 3, "batch": 1, "rank": 0, "device": "cpu"}
    values |= {"validation_clips": 0, "log_every": 1, "output": str(output)}
    if more.get("target") in OFFICIAL_RANKS:
        values["rank"] = 4
    return TrainingSettings(**{**values, **more})


def trained(output: Path, *, base: Base | None = None, clips=None, **more) -> dict[str, Tensor]:
    """Train on latents, and read what was written."""
    clips = clips if clips is not None else MemorySource(latent_clips(), latents=True)
    base = base or small_base(small_unet() if "motion" in more else tiny_unet())
    return load_file(train(settings(output, **more), base=base, clips=clips))


def records(output: Path) -> list[dict]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def largest_difference(a: dict[str, Tensor], b: dict[str, Tensor]) -> float:
    assert a.keys() == b.keys()
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def equal(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def written_motion(folder: Path, kind: str = "v3") -> Path:
    """A motion module for `small_unet`."""
    path = folder / f"mm_{kind}.safetensors"
    save_file(random_motion_state(kind, WIDTHS), path)
    return path


def motion_for(target: str, folder: Path) -> dict[str, str]:
    """The setting of what is trained for a motion module."""
    return {"motion": str(written_motion(folder))} if target in ("motion-lora", *FOR_MOTION) else {}
