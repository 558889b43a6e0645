"""Gates: what a stage must reach before the next one begins, measured on pictures and errors, never on the loss.

A loss falls while the model paints garbage: it is dominated by noise levels that say nothing about what is painted.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from .base import Conditions, alphas_cumprod, noised
from .loop import stream
from .measure import Reading, read
from .pictures import sheet
from .sampling import ddim
from .vae import LATENT_CHANNELS, PIXELS_PER_LATENT, Vae, in_parts
from .world import CONCEPTS, FRAMES, HELD_OUT, SIZE, TRAINED, Concept, scene, still

GATE_SEED = 7919  # far from the seeds that training scenes come from
ROWS = 10  # pictures in a row of a contact sheet

VAE_PICTURES = 120  # per style
VAE_PSNR, VAE_READ = 33.0, 0.99
SAMPLES, HELD_OUT_SAMPLES = 80, 40
BASE_RIGHT, HELD_OUT_RIGHT = 0.95, 0.9
# Error of the predicted clean latents at a timestep, as a share of the data's variance.
BASE_ERRORS = {500: 0.08, 700: 0.30, 900: 0.80, 980: 1.0}
ERROR_STILLS = 240
EXPORT_SAMPLES, EXPORT_RIGHT = 20, 0.9

Paint = Callable[[Sequence[Concept], int], Tensor]  # concepts and a seed to pictures, n c h w


@dataclass(frozen=True)
class Gate:
    """One figure and the bound that it must keep."""

    name: str
    value: float
    bound: float
    at_least: bool = True

    @property
    def passed(self) -> bool:
        """Whether the figure keeps its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def __str__(self) -> str:
        sign = ">=" if self.at_least else "<="
        return f"{'pass' if self.passed else 'FAIL'}  {self.name}: {self.value:.3f} ({sign} {self.bound:g})"


@torch.no_grad()
def vae_gates(vae: Vae, styles: Sequence[str], seed: int, picture: Path) -> list[Gate]:
    """Reconstructions of some styles: signal to noise, and whether everything can still be read from them."""
    gates, rows = [], []
    for style in styles:
        concepts, shown = fresh(seed, style, VAE_PICTURES)
        painted = in_parts(lambda part: vae.decode(vae.encode(part)).clamp(0, 1), shown)
        gates.append(Gate(f"vae, {style}: PSNR in dB", psnr(painted, shown), VAE_PSNR))
        gates.append(Gate(f"vae, {style}: read rightly", right([read(each) for each in painted], concepts), VAE_READ))
        rows += [shown[:ROWS], painted[:ROWS]]
    sheet(torch.stack(rows), picture)
    return gates


def base_gates(unet: nn.Module, vae: Vae, conditions: Conditions, seed: int, picture: Path) -> list[Gate]:
    """Samples of trained and of held-out captions, and the error per timestep."""
    paint = painter(unet, vae, conditions)
    gates = [
        sample_gate("base", paint, TRAINED, SAMPLES, BASE_RIGHT, seed, picture),
        sample_gate(
            "base, held out", paint, HELD_OUT, HELD_OUT_SAMPLES, HELD_OUT_RIGHT, seed, picture.with_stem("held_out")
        ),
    ]
    concepts, shown = fresh(seed, "plain", ERROR_STILLS)
    with torch.no_grad():
        clean = in_parts(vae.encode, shown)
    numbers = torch.tensor([CONCEPTS.index(concept) for concept in concepts])
    for t, error in errors(unet, clean, conditions.plain(numbers), BASE_ERRORS).items():
        gates.append(Gate(f"base: error at t={t}, of the variance", error, BASE_ERRORS[t], at_least=False))
    return gates


def sample_gate(
    name: str, paint: Paint, concepts: Sequence[Concept], count: int, bound: float, seed: int, picture: Path
) -> Gate:
    """Share of samples that show everything their caption says."""
    shuffled = random.Random(seed).sample(concepts, len(concepts))  # so that a few samples hold something of each
    asked = list(itertools.islice(itertools.cycle(shuffled), count))
    painted = paint(asked, GATE_SEED + seed)
    sheet(painted[: count - count % ROWS].view(-1, ROWS, *painted.shape[1:]), picture)
    return Gate(f"{name}: everything right in {count} samples", right([read(each) for each in painted], asked), bound)


def painter(unet: nn.Module, vae: Vae, conditions: Conditions) -> Paint:
    """Paint with the model in memory."""

    @torch.no_grad()
    def paint(concepts: Sequence[Concept], seed: int) -> Tensor:
        numbers = torch.tensor([CONCEPTS.index(concept) for concept in concepts])
        side = SIZE // PIXELS_PER_LATENT
        noise = torch.randn(len(numbers), LATENT_CHANNELS, side, side, generator=stream(seed, "samples"))
        latents = ddim(unet, noise, conditions.plain(numbers), conditions.empty(len(numbers)))
        return in_parts(vae.decode, latents).clamp(0, 1)

    return paint


@torch.no_grad()
def errors(
    unet: nn.Module, clean: Tensor, context: Tensor, timesteps: Sequence[int] | dict[int, float]
) -> dict[int, float]:
    """Squared error of the predicted clean latents per timestep, as a share of the latents' variance."""
    noise = torch.randn(clean.shape, generator=stream("errors"))
    found = {}
    for t in timesteps:
        rows = torch.full((len(clean),), t)
        alpha = alphas_cumprod()[t]
        wrong = unet(noised(clean, noise, rows), rows, context=context) - noise
        found[t] = float(wrong.square().mean() * (1 - alpha) / alpha / clean.var())
    return found


def fresh(seed: int, style: str, count: int) -> tuple[list[Concept], Tensor]:
    """Stills that no training saw, with what they show."""
    scenes = [scene(GATE_SEED + seed, number, style, CONCEPTS) for number in range(count)]
    stills = [still(each, number % FRAMES) for number, each in enumerate(scenes)]
    return [each.concept for each in scenes], torch.stack(stills)


def right(readings: Sequence[Reading], concepts: Sequence[Concept], style: str | None = None) -> float:
    """Share of the pictures that show what they should."""
    return sum(each.shows(one, style) for each, one in zip(readings, concepts, strict=True)) / len(concepts)


def psnr(painted: Tensor, shown: Tensor) -> float:
    """Peak signal to noise ratio in dB of pictures from 0 to 1."""
    return -10 * math.log10(float((painted - shown).square().mean()))
