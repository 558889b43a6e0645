"""The pocket model's text encoder: CLIP's shape and CLIP's tokenizer, with random weights that are never trained.

Trained together with the UNet, so small an encoder collapses (right, up and down become one). A random one keeps
every word apart, and the UNet's cross-attention learns to read it. Words that the world does not have share one empty
embedding, so that a prompt may hold them: "a photo of a red disc moving left, best quality".
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib_animatediff.builtin_model import STABLE_DIFFUSION_15

from .loop import replacing, stream
from .world import CONCEPTS, caption

WIDTH = 64
LAYERS = 2
HEADS = 4
INTERMEDIATE = 4 * WIDTH
POSITIONS = 77
POSITION_SIZE = 0.3  # next to words of size 1
START, END = "<|startoftext|>", "<|endoftext|>"

TOKENIZER = STABLE_DIFFUSION_15 / "tokenizer"  # CLIP's own
VOCABULARY_SIZE = 49408

# Ways to write a caption. The first is the plain one; the others hold words that mean nothing to the world.
PHRASINGS = ("{}", "a photo of {}", "{}, best quality", "clip of {}, sharp, detailed", "{} on a plain background")
EMPTY_PHRASINGS = (
    "",
    "low quality",
    "worst quality, blurry, noisy",
    "jpeg artifacts, deformed, text, watermark",
    "bad",
)


@cache
def vocabulary() -> dict[str, int]:
    """CLIP's tokens and their numbers."""
    tokens: dict[str, int] = json.loads((TOKENIZER / "vocab.json").read_text(encoding="utf-8"))
    return tokens


# The WebUI divides by the mean of all outputs when words have weights, and a norm's mean is nothing but rounding.
OUTPUT_MEAN = 2**-10


def config() -> dict[str, Any]:
    """The encoder's configuration as transformers writes it."""
    ends = vocabulary()
    return {
        "architectures": ["CLIPTextModel"],
        "model_type": "clip_text_model",
        "vocab_size": VOCABULARY_SIZE,
        "hidden_size": WIDTH,
        "intermediate_size": INTERMEDIATE,
        "projection_dim": WIDTH,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": POSITIONS,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": ends[START],
        "eos_token_id": ends[END],
        "pad_token_id": ends[END],
    }


def write_tokenizer(folder: Path) -> Path:
    """Write CLIP's tokenizer as a folder that transformers reads."""
    for source in TOKENIZER.iterdir():
        if not (folder / source.name).exists():  # another process may be reading them
            with replacing(folder / source.name) as unfinished:
                shutil.copyfile(source, unfinished)
    return folder


def known_words() -> list[str]:
    """Every word of the world's captions; each is one of CLIP's tokens."""
    return sorted({word for concept in CONCEPTS for word in caption(concept).split()})


def weights(seed: int, known: Sequence[str] | None = None) -> dict[str, Tensor]:
    """The encoder's weights under the names of a Stable Diffusion checkpoint, without its prefix.

    Args:
        seed: of the draws.
        known: the words that have a meaning; the pocket world's by default.
    """
    known = known_words() if known is None else known
    random = stream(seed, "text")
    inside, outside = (2 * LAYERS * WIDTH) ** -0.5, WIDTH**-0.5  # how CLIP was initialised

    def normal(size: float, *shape: int) -> Tensor:
        return size * torch.randn(*shape, generator=random)

    rows = [vocabulary()[token] for token in (START, END, *(f"{word}</w>" for word in known))]
    words = torch.zeros(VOCABULARY_SIZE, WIDTH)
    words[rows] = normal(1.0, len(rows), WIDTH)
    found = {
        "embeddings.token_embedding.weight": words,
        "embeddings.position_embedding.weight": normal(POSITION_SIZE, POSITIONS, WIDTH),
    }
    for number in range(LAYERS):
        layer = f"encoder.layers.{number}"
        found |= {f"{layer}.self_attn.{part}_proj.weight": normal(inside, WIDTH, WIDTH) for part in "qkv"}
        found[f"{layer}.self_attn.out_proj.weight"] = normal(outside, WIDTH, WIDTH)
        found[f"{layer}.mlp.fc1.weight"] = normal((2 * WIDTH) ** -0.5, INTERMEDIATE, WIDTH)
        found[f"{layer}.mlp.fc2.weight"] = normal(inside, WIDTH, INTERMEDIATE)
        found |= {f"{layer}.layer_norm{norm}.weight": torch.ones(WIDTH) for norm in (1, 2)}
    found["final_layer_norm.weight"] = torch.ones(WIDTH)
    biases = {
        name.replace(".weight", ".bias"): torch.zeros(len(weight))
        for name, weight in found.items()
        if "embedding" not in name
    }
    biases["final_layer_norm.bias"] += OUTPUT_MEAN
    # Rounded to half precision here, so that the UNet learns from what the shipped file says.
    return {name: weight.half().float() for name, weight in (found | biases).items()}


class TextEncoder:
    """Prompts to the conditions that the UNet reads."""

    def __init__(self, seed: int, folder: Path, known: Sequence[str] | None = None) -> None:
        """Build encoder and tokenizer, see `weights`; the tokenizer's files are written into a folder."""
        from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

        self.tokenizer = CLIPTokenizer.from_pretrained(write_tokenizer(folder))
        self.model = CLIPTextModel(CLIPTextConfig(**config())).eval().requires_grad_(False)
        # transformers before 5.6 wraps the encoder once more
        getattr(self.model, "text_model", self.model).load_state_dict(weights(seed, known), strict=False)

    @torch.no_grad()
    def __call__(self, prompts: list[str]) -> Tensor:
        """Conditions, n 77 c."""
        ids = self.tokenizer(
            prompts, padding="max_length", max_length=POSITIONS, truncation=True, return_tensors="pt"
        ).input_ids
        conditions: Tensor = self.model(ids).last_hidden_state
        return conditions
