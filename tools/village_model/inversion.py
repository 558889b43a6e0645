"""A textual inversion: two vectors that mean a winter night, learned from stills whose captions do not say so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import functional_call

from tools.pocket.loop import Plan, load, save, stream, warm_cosine
from tools.pocket.text import TextEncoder, vocabulary
from tools.village.words import caption

from . import workers
from .base import PARTS, load_unet, weighted_error
from .latents import Clips, load_clips
from .recipe import InversionRecipe, Recipe
from .text import load_encoder

RESULT = "inversion.safetensors"
KEY = "emb_params"  # as the WebUI saves embeddings
# Words that the world does not know; while the vectors are trained they stand at these places.
PLACES = ("zeppelin</w>", "giraffe</w>", "accordion</w>", "submarine</w>")


class Inversion(nn.Module):
    """The vectors, and prompts that end with them."""

    def __init__(self, encoder: TextEncoder, vectors: int, seed: int) -> None:
        super().__init__()
        self._encoder = [encoder]  # a list hides its weights from the optimizer
        self._ids = [vocabulary()[place] for place in PLACES[:vectors]]
        self.suffix = " ".join(place.removesuffix("</w>") for place in PLACES[:vectors])
        width = encoder.model.config.hidden_size
        self.vectors = nn.Parameter(0.5 * torch.randn(vectors, width, generator=stream(seed, "inversion")))

    def forward(self, prompts: Sequence[str]) -> Tensor:
        """Conditions, n t c, of prompts that end with the vectors."""
        encoder = self._encoder[0]
        name = next(name for name, _ in encoder.model.named_parameters() if name.endswith("token_embedding.weight"))
        table = encoder.model.get_parameter(name).detach()
        table = table.index_copy(0, torch.tensor(self._ids), self.vectors)
        ids = encoder.tokenizer(
            [f"{prompt}, {self.suffix}" for prompt in prompts],
            padding="max_length", max_length=encoder.tokenizer.model_max_length, truncation=True, return_tensors="pt",
        ).input_ids  # fmt: skip
        conditions: Tensor = functional_call(encoder.model, {name: table}, (ids,)).last_hidden_state
        return conditions


def unsaid(concepts: dict[str, str], hidden: dict[str, str]) -> str:
    """A caption that does not name some concepts of a scene."""
    usual = {field: "clear" if field == "weather" else "day" for field in hidden}
    return caption({**concepts, **usual})


def loss(unet: nn.Module, clips: Clips, rows: Tensor, inversion: Inversion, recipe: Recipe, step: int) -> Tensor:
    """Weighted error of the predicted noise in this process's share of a step's batch."""
    how = recipe.inversion
    random = stream(recipe.seed, "village inversion", step, workers.rank())
    count = how.batch // workers.count()
    picked = rows[torch.randint(len(rows), (count,), generator=random)]
    frames = torch.randint(clips.latents.shape[1], (count,), generator=random)
    context = inversion([unsaid(clips.scenes[row].concepts, dict(how.shows)) for row in picked.tolist()])
    return weighted_error(unet, clips.latents[picked, frames].float(), context, random, how.largest_weight)


def train_inversion(recipe: Recipe, folder: Path, until: int | None = None) -> None:
    """Train the vectors and write them as the WebUI and diffusers read them."""
    how: InversionRecipe = recipe.inversion
    clips, unet = load_clips(recipe, folder), load_unet(folder)
    shows = dict(how.shows).items()
    rows = torch.tensor([n for n, each in enumerate(clips.scenes) if shows <= each.concepts.items()])
    inversion = Inversion(load_encoder(recipe, folder), how.vectors, recipe.seed)
    plan = Plan("inversion", how.steps, warm_cosine(how.rate, how.steps, how.warm_up), how.average, weight_decay=0.0)
    state = folder / "inversion.state"
    if workers.train(inversion, lambda step: loss(unet, clips, rows, inversion, recipe, step), plan, state, until):
        save(folder / RESULT, {KEY: inversion.vectors.half()}, recipe.about(*PARTS, "inversion"))
        state.unlink()


def load_vectors(folder: Path) -> Tensor:
    """The trained vectors."""
    return load(folder / RESULT)[0][KEY].float()
