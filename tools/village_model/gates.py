"""Gates: what a stage must reach before the next one begins, measured on pictures, never on the loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.pocket.export import load_pipeline, sample
from tools.pocket.gates import GATE_SEED, Gate, psnr
from tools.pocket.loop import stream
from tools.pocket.pictures import sheet
from tools.pocket.sampling import ddim
from tools.pocket.text import TextEncoder
from tools.pocket.vae import LATENT_CHANNELS, Vae, in_parts
from tools.village.scene import CONCEPTS, FRAMES, HELD_OUT, STILL, TRAINED, Concept, Scene, scene
from tools.village.words import caption

from .base import load_unet
from .export import VILLAGE
from .inversion import Inversion, load_vectors, unsaid
from .latents import SIDE, load_clips
from .pictures import stills
from .probe import FIELDS, Judge, Reading
from .recipe import SIZE, Recipe
from .styles import FINE_TUNED, LORA, load_fine_tuned, load_styled
from .text import Conditions, load_encoder
from .vae import load_vae

SHEETS = "sheets"
ROWS = 10  # pictures in a row of a contact sheet
AT_ONCE = 20
CAPTION = ("subject", "colour", "motion", "scenery")  # what a still must show of its caption
PROBE_RIGHT = 0.97  # of drawn pictures, by field
VAE_PICTURES, VAE_READ = 96, 0.95
SAMPLES, HELD_OUT_SAMPLES = 200, 100
BASE_RIGHT, HELD_OUT_RIGHT = 0.9, 0.8

EXPORT_SAMPLES, EXPORT_RIGHT = 20, 0.85
STYLE_SAMPLES = 80
STYLE_SHOWN, STYLE_RIGHT = 0.9, 0.75

Paint = Callable[[Sequence[Scene], int], Tensor]  # scenes whose captions count, and a seed, to pictures, n c h w


def fresh(count: int, concepts: Sequence[Concept] = CONCEPTS, **fixed: str) -> list[Scene]:
    """Scenes that no training saw."""
    return [scene(GATE_SEED, number, concepts, STILL, **fixed) for number in range(count)]


def gate_probe(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the judge on drawn pictures."""
    del recipe
    shown = [(each, n % FRAMES) for style in FIELDS["style"] for n, each in enumerate(fresh(100, style=style))]
    readings = Judge(folder)(stills(shown))
    return [
        Gate(f"probe: {field} read rightly", share(readings, [s for s, _ in shown], (field,)), PROBE_RIGHT)
        for field in FIELDS
    ]


@torch.no_grad()
def gate_vae(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check reconstructions of every style: what the pictures lose, and whether everything can still be read.

    They may lose no more than at half their size; how much that is, depends on the style's lines.
    """
    vae, judge, gates, rows = load_vae(folder), Judge(folder), [], []
    for style in dict.fromkeys(recipe.vae.styles):
        scenes = fresh(VAE_PICTURES, style=style)
        shown = stills([(each, n % FRAMES) for n, each in enumerate(scenes)])
        painted = in_parts(lambda part: vae.decode(vae.encode(part)).clamp(0, 1), shown)
        gates.append(Gate(f"vae, {style}: PSNR in dB", psnr(painted, shown), psnr(halved(shown), shown)))
        gates.append(Gate(f"vae, {style}: read rightly", share(judge(painted), scenes, CAPTION), VAE_READ))
        rows += [shown[:ROWS], painted[:ROWS]]
    sheet(torch.stack(rows), folder / SHEETS / "vae.png")
    return gates


def halved(shown: Tensor) -> Tensor:
    """Pictures, n c h w, reduced to half their size and enlarged again."""
    small = F.interpolate(shown, scale_factor=0.5, mode="bicubic", antialias=True)
    return F.interpolate(small, scale_factor=2, mode="bilinear")


def gate_latents(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the spread that the UNet will see."""
    size = float(load_clips(recipe, folder).latents.float().std())
    return [Gate("latents: standard deviation", size, 0.9), Gate("latents: standard deviation", size, 1.1, False)]


def gate_base(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples of trained and of held-out captions."""
    paint = painter(load_unet(folder), load_vae(folder), Conditions(load_encoder(recipe, folder)))
    judge, sheets = Judge(folder), folder / SHEETS
    return [
        *sample_gates("base", paint, judge, fresh(SAMPLES, TRAINED), BASE_RIGHT, sheets / "base.png"),
        *sample_gates(
            "base, held out", paint, judge, fresh(HELD_OUT_SAMPLES, HELD_OUT), HELD_OUT_RIGHT, sheets / "held_out.png"
        ),
    ]


def gate_export(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check the written checkpoint through diffusers."""
    del recipe
    pipeline = load_pipeline(folder, VILLAGE.name)

    def paint(scenes: Sequence[Scene], seed: int) -> Tensor:
        return sample(pipeline, [caption(each.concepts) for each in scenes], seed, SIZE)

    scenes = fresh(EXPORT_SAMPLES, TRAINED)
    return sample_gates("diffusers", paint, Judge(folder), scenes, EXPORT_RIGHT, folder / SHEETS / "diffusers.png")


def gate_lora(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples of the base model with the LoRA's file at full strength."""
    return style_gates(recipe, folder, load_styled(folder), LORA, recipe.lora.style)


def gate_fine_tune(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples of the second checkpoint."""
    return style_gates(recipe, folder, load_fine_tuned(folder), FINE_TUNED, recipe.fine_tune.style)


def style_gates(recipe: Recipe, folder: Path, unet: nn.Module, name: str, style: str) -> list[Gate]:
    """Samples of every kind of caption: the style shows, and nothing that the caption says is lost."""
    paint = painter(unet, load_vae(folder), Conditions(load_encoder(recipe, folder)))
    scenes = fresh(STYLE_SAMPLES, style=style)
    painted = paint(scenes, GATE_SEED)
    sheet(painted.view(-1, ROWS, *painted.shape[1:]), folder / SHEETS / f"{name}.png", zoom=1)
    readings = Judge(folder)(painted)
    return [
        Gate(f"{name}: style shown in {len(scenes)} samples", share(readings, scenes, ("style",)), STYLE_SHOWN),
        Gate(f"{name}: everything right", share(readings, scenes, CAPTION), STYLE_RIGHT),
        Gate(f"{name}: heading", share(readings, scenes, ("motion",)), STYLE_RIGHT),
    ]


def gate_inversion(recipe: Recipe, folder: Path) -> list[Gate]:
    """Check samples whose prompts end with the vectors and do not say what they show."""
    shows = dict(recipe.inversion.shows)
    vae, unet, encoder = load_vae(folder), load_unet(folder), load_encoder(recipe, folder)
    vectors = Inversion(encoder, recipe.inversion.vectors, recipe.seed)
    vectors.load_state_dict({"vectors": load_vectors(folder)})
    scenes = fresh(STYLE_SAMPLES, TRAINED, **shows)
    paint = painter(unet, vae, Inverted(encoder, vectors, shows))
    painted = paint(scenes, GATE_SEED)
    sheet(painted.view(-1, ROWS, *painted.shape[1:]), folder / SHEETS / "inversion.png", zoom=1)
    readings = Judge(folder)(painted)
    return [
        Gate(f"inversion: shown in {len(scenes)} samples", share(readings, scenes, tuple(shows)), STYLE_SHOWN),
        Gate("inversion: everything right", share(readings, scenes, CAPTION), STYLE_RIGHT),
    ]


class Inverted(Conditions):
    """Conditions of captions that end with the vectors of an inversion."""

    def __init__(self, encoder: TextEncoder, vectors: Inversion, hidden: dict[str, str]) -> None:
        super().__init__(encoder)
        self.vectors, self.hidden = vectors, hidden

    @torch.no_grad()
    def of(self, shown: Sequence[Scene]) -> Tensor:
        conditions: Tensor = self.vectors([unsaid(each.concepts, self.hidden) for each in shown])
        return conditions


def none(recipe: Recipe, folder: Path) -> list[Gate]:
    """Nothing to check."""
    del recipe, folder
    return []


def sample_gates(
    name: str, paint: Paint, judge: Judge, scenes: Sequence[Scene], bound: float, picture: Path
) -> list[Gate]:
    """Share of samples that show subject, colour, heading and scenery of their caption; each of them by itself."""
    painted = paint(scenes, GATE_SEED)
    sheet(painted[: len(scenes) - len(scenes) % ROWS].view(-1, ROWS, *painted.shape[1:]), picture, zoom=1)
    readings = judge(painted)
    gates = [Gate(f"{name}: everything right in {len(scenes)} samples", share(readings, scenes, CAPTION), bound)]
    return gates + [
        Gate(f"{name}: {field}", share(readings, scenes, (field,)), bound if field in CAPTION else 0.0)
        for field in FIELDS
    ]


def painter(unet: nn.Module, vae: Vae, conditions: Conditions) -> Paint:
    """Paint with the model in memory."""

    @torch.no_grad()
    def paint(scenes: Sequence[Scene], seed: int) -> Tensor:
        random = stream(seed, "village samples")
        pictures = []
        for start in range(0, len(scenes), AT_ONCE):
            some = scenes[start : start + AT_ONCE]
            noise = torch.randn(len(some), LATENT_CHANNELS, SIDE, SIDE, generator=random)
            latents = ddim(unet, noise, conditions.of(some), conditions.empty(len(some)))
            pictures.append(in_parts(vae.decode, latents).clamp(0, 1))
        return torch.cat(pictures)

    return paint


def share(readings: Sequence[Reading], scenes: Sequence[Scene], fields: Sequence[str]) -> float:
    """Share of the pictures that show some fields of their scenes."""
    return sum(each.shows(one, fields) for each, one in zip(readings, scenes, strict=True)) / len(scenes)
