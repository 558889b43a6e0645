"""Random motion LoRAs, in the spellings that are about; each spelling is written from its published description."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from support.motion_files import SMALL_WIDTHS, official_sites
from torch import Tensor

RANK = 2
PARTS = ("q", "k", "v", "out")
Place = tuple[str, int, str]  # site, attention, part
Changes = dict[Place, tuple[Tensor, Tensor]]  # down, up
Spelling = Callable[[str, int, str], tuple[str, str]]


def random_lora(kind: str = "v3", widths: tuple[int, ...] = SMALL_WIDTHS, *, seed: int = 3) -> Changes:
    """A change of every attention weight, about as large as these are."""
    generator = torch.Generator().manual_seed(seed)
    return {
        (site, attention, part): (
            torch.randn(RANK, width, generator=generator) * width**-0.5,
            torch.randn(width, RANK, generator=generator) * RANK**-0.5,
        )
        for site, width in official_sites(kind, widths)
        for attention in range(2)
        for part in PARTS
    }


def changed_weight(place: Place) -> str:
    """The official name of the weight that it changes."""
    site, attention, part = place
    layer = f"to_{part}{'.0' if part == 'out' else ''}"
    return f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}.{layer}.weight"


def _spelling(name: str, layer: str, down: str, up: str, *, is_flat: bool = False) -> Spelling:
    """From the name of a layer and the ends of its two factors."""

    def spelled(site: str, attention: int, part: str) -> tuple[str, str]:
        to = f"to_{part}{'.0' if part == 'out' else ''}"
        path = layer.format(site=site, attention=attention, number=attention + 1, part=part, to=to)
        path = path.replace(".", "_") if is_flat else path
        return path + down, path + up

    spelled.__name__ = name
    return spelled


BLOCK = "{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
PROCESSOR = BLOCK + ".processor.to_{part}_lora"
LATER = "{site}.transformer_blocks.0.attn{number}"
DOWN, UP = ".down.weight", ".up.weight"
FLAT = (".lora_down.weight", ".lora_up.weight")

official = _spelling("official", PROCESSOR, DOWN, UP)
distributed = _spelling("distributed", "module." + PROCESSOR, DOWN, UP)  # as a training on several GPUs saves them
converted = _spelling("converted", BLOCK + ".{to}", *FLAT, is_flat=True)  # for the WebUI's loader
kohya = _spelling("kohya", "lora_unet_" + BLOCK + ".{to}", *FLAT, is_flat=True)
diffusers = _spelling("diffusers", "unet." + LATER + ".processor.to_{part}_lora", DOWN, UP)
later_diffusers = _spelling("later_diffusers", "unet." + LATER + ".{to}.lora", DOWN, UP)
linear_layers = _spelling("linear_layers", "unet." + LATER + ".{to}.lora_linear_layer", DOWN, UP)
peft = _spelling("peft", "unet." + LATER + ".{to}", ".lora_A.weight", ".lora_B.weight")
adapter_peft = _spelling(
    "adapter_peft", "base_model.model." + LATER + ".{to}", ".lora_A.default.weight", ".lora_B.default.weight"
)

SPELLINGS = [official, distributed, converted, kohya, diffusers, later_diffusers, linear_layers, peft, adapter_peft]


def lora_state(changes: Changes, spelling: Spelling = official) -> dict[str, Tensor]:
    """As a file has them."""
    return {name: t for place, pair in changes.items() for name, t in zip(spelling(*place), pair, strict=True)}


def alphas(changes: Changes, spelling: Spelling, alpha: float) -> dict[str, Tensor]:
    """The same alpha for each layer."""
    ends = re.compile(r"(?:_lora\.|\.lora[._]|\.lora_linear_layer\.)(?:down|A)\..*")
    return {f"{ends.sub('', spelling(*place)[0])}.alpha": torch.tensor(alpha) for place in changes}


def write_lora(
    path: Path, spelling: Spelling = official, *, kind: str = "v3", metadata: dict[str, str] | None = None
) -> Path:
    """A safetensors file, whatever its name."""
    save_file(lora_state(random_lora(kind), spelling), path, metadata)
    return path
