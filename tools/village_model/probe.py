"""The judge: what a picture of the world shows, read by a small classifier that has only seen drawn pictures.

It shares nothing with the model that it judges: neither VAE nor latents nor samples took part in its training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tools.pocket.loop import Plan, load, save, stream, train, warm_cosine
from tools.village.draw import truth
from tools.village.scene import CONCEPTS, FRAMES, Scene, scene
from tools.village.words import TABLES

from .pictures import picture
from .recipe import ProbeRecipe, Recipe

RESULT = "probe.safetensors"
SEEN = 64  # pixels across the pictures that it looks at
CELLS = 16  # across its map of where the subject may be
NOTHING = "nothing"  # in place of a subject
FIELDS: dict[str, tuple[str, ...]] = {
    field: (*table, NOTHING) if field == "subject" else tuple(table) for field, table in TABLES.items()
}
OF_SUBJECT = ("subject", "colour", "motion")  # fields that say nothing where there is no subject
WIPED = 0.08  # share of the pictures whose subject is covered
STYLES = ("plain", "plain", "pastel", "ink", "plain", "neon")
PLACE_WEIGHT = 40.0  # of the error of the place, in shares of the picture, beside the classes' errors


@dataclass(frozen=True)
class Reading:
    """What one picture shows.

    Attributes:
        concepts: of each field, "nothing" as subject where there is none.
        sure: the least probability of subject, colour and motion.
        x, y: middle of the subject, as a share of the picture.
    """

    concepts: dict[str, str]
    sure: float
    x: float
    y: float

    def shows(self, wanted: Scene, fields: Sequence[str]) -> bool:
        """Whether some fields are as a scene has them."""
        return all(self.concepts[field] == wanted.concepts[field] for field in fields)


class Probe(nn.Module):
    """Pictures to the scores of every field, and to where the subject is."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            _layer(3, 32, 1), _layer(32, 64, 2), _layer(64, 64, 1), _layer(64, 96, 2), _layer(96, 96, 1)
        )
        self.top = nn.Sequential(_layer(96, 128, 2), _layer(128, 128, 1), _layer(128, 128, 1))
        self.where = nn.Conv2d(96, 1, 1)
        self.heads = nn.ModuleDict({field: nn.Linear(2 * 128 + 96, len(names)) for field, names in FIELDS.items()})

    def forward(self, pictures: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Scores, n classes, of each field; middles, n 2, as shares of the picture."""
        found = self.body(2 * F.adaptive_avg_pool2d(pictures, SEEN) - 1)
        chance = self.where(found).flatten(1).softmax(dim=1)
        places = (torch.arange(CELLS) + 0.5) / CELLS
        grid = torch.stack([places.repeat(CELLS), places.repeat_interleave(CELLS)], dim=1)
        there = (found.flatten(2) * chance[:, None]).sum(dim=2)
        high = self.top(found).flatten(2)
        summary = torch.cat([high.mean(dim=2), high.amax(dim=2), there], dim=1)
        return {field: head(summary) for field, head in self.heads.items()}, chance @ grid


def _layer(inputs: int, outputs: int, stride: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.GroupNorm(8, outputs), nn.ReLU(inplace=True)
    )


def train_probe(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the judge and write it."""
    how = recipe.probe
    pictures, labels, middles = _lessons(how, recipe.seed)
    torch.manual_seed(recipe.seed)
    probe = Probe().train()
    plan = Plan("probe", how.steps, warm_cosine(how.rate, how.steps, 50), 0.0, save_every=how.steps)
    state = folder / "probe.state"

    def loss(step: int) -> Tensor:
        random = stream(recipe.seed, "village probe", step)
        rows = torch.randint(len(pictures), (how.batch,), generator=random)
        shown, wiped = _worn(pictures[rows].float() / 255, middles[rows], random)
        scores, places = probe(shown)
        error: Tensor = PLACE_WEIGHT * ((places - middles[rows]).square().sum(dim=1) * ~wiped).mean()
        for field, score in scores.items():
            wanted = labels[field][rows].clone()
            if field == "subject":
                wanted[wiped] = FIELDS[field].index(NOTHING)
            elif field in OF_SUBJECT:
                wanted[wiped] = -100
            error = error + F.cross_entropy(score, wanted, ignore_index=-100)
        return error

    if not train(probe, loss, plan, state, until):
        return
    save(folder / RESULT, probe.state_dict(), recipe.about("probe"))
    state.unlink()


def _lessons(how: ProbeRecipe, seed: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """Drawn pictures in bytes, the numbers of their concepts, and the subjects' middles."""
    scenes = [scene(seed, -1 - n, CONCEPTS, style=STYLES[n % len(STYLES)]) for n in range(how.pictures)]
    pictures = torch.stack([(picture(each, n % FRAMES, SEEN) * 255).to(torch.uint8) for n, each in enumerate(scenes)])
    labels = {
        field: torch.tensor([names.index(each.concepts[field]) for each in scenes]) for field, names in FIELDS.items()
    }
    return pictures, labels, torch.tensor([truth(each, 1)[n % FRAMES] for n, each in enumerate(scenes)])


def _worn(pictures: Tensor, middles: Tensor, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Blurred, noisy and tinted pictures, so that the judge does not look for a painter's hand; which have no subject.

    A subject is covered with what the next picture of the batch has at a place where its own subject is not.
    """
    count = len(pictures)
    blurred = F.avg_pool2d(F.pad(pictures, (1, 1, 1, 1), mode="replicate"), 3, 1)
    share = torch.rand(count, 1, 1, 1, generator=random)
    worn = torch.lerp(pictures, blurred, share)
    worn = worn + 0.05 * torch.rand(count, 1, 1, 1, generator=random) * torch.randn(worn.shape, generator=random)
    worn = worn + 0.03 * torch.randn(count, 3, 1, 1, generator=random)
    wiped = torch.rand(count, generator=random) < WIPED
    half = SEEN * 5 // 16
    for row in wiped.nonzero().flatten().tolist():
        other = worn[(row + 1) % count].roll((SEEN // 2, SEEN // 2), (1, 2))
        x, y = (int(along * SEEN) for along in middles[row])
        over = (slice(None), slice(max(0, y - half), y + half), slice(max(0, x - half), x + half))
        worn[row][over] = other[over]
    return worn.clamp(0, 1), wiped


class Judge:
    """Reads pictures."""

    def __init__(self, folder: Path) -> None:
        self._probe = Probe()
        self._probe.load_state_dict(load(folder / RESULT)[0])
        self._probe.eval()

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> list[Reading]:
        """What pictures, n c h w from 0 to 1, show."""
        scores, places = self._probe(pictures.float().clamp(0, 1))
        chances = {field: score.softmax(dim=1).max(dim=1) for field, score in scores.items()}
        readings = []
        for row, (x, y) in enumerate(places.tolist()):
            concepts = {field: FIELDS[field][int(best.indices[row])] for field, best in chances.items()}
            sure = min(float(chances[field].values[row]) for field in OF_SUBJECT)
            readings.append(Reading(concepts, sure, x, y))
        return readings
