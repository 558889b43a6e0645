"""Captions as conditions. The encoder is CLIP's shape with random weights that are never trained, as the pocket's."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from tools.pocket.text import EMPTY_PHRASINGS, TextEncoder, write_tokenizer
from tools.village.scene import Scene
from tools.village.words import caption, known_words

from . import workers
from .recipe import Recipe

# What people write around a caption; none of these words means anything to the world.
PHRASINGS = ("{}", "{}", "{}", "{}, best quality", "clip of {}, sharp, detailed", "masterpiece, {}")
SYNONYM_SEEDS = 2**20


def load_encoder(recipe: Recipe, folder: Path) -> TextEncoder:
    """The text encoder; its tokenizer's files are written into the folder."""
    tokenizer = folder / "config" / "tokenizer"
    if workers.rank() == 0:
        write_tokenizer(tokenizer)
    workers.wait()
    return TextEncoder(recipe.seed, tokenizer, known_words())


def written(shown: Sequence[Scene], random: torch.Generator, plain_share: float, empty_share: float) -> list[str]:
    """A caption for each scene: plain ones, some with synonyms, some empty ones."""
    count = len(shown)
    chance, synonyms = torch.rand(count, generator=random), torch.randint(SYNONYM_SEEDS, (count,), generator=random)
    forms = torch.randint(len(PHRASINGS), (count,), generator=random).tolist()
    texts = []
    for each, share, seed, form in zip(shown, chance.tolist(), synonyms.tolist(), forms, strict=True):
        if share < empty_share:
            texts.append(EMPTY_PHRASINGS[seed % len(EMPTY_PHRASINGS)])
        elif share < empty_share + plain_share:
            texts.append(caption(each.concepts))
        else:
            texts.append(PHRASINGS[form].format(caption(each.concepts, seed)))
    return texts


class Conditions:
    """The plain captions of scenes and the empty one, encoded."""

    def __init__(self, encoder: TextEncoder) -> None:
        self.encoder = encoder
        self._empty = encoder([""])

    def of(self, shown: Sequence[Scene]) -> Tensor:
        """Conditions of the plain captions, n t c."""
        return self.encoder([caption(each.concepts) for each in shown])

    def empty(self, count: int) -> Tensor:
        """The empty caption, repeated."""
        return self._empty.expand(count, -1, -1)
