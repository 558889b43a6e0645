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


def official(site: str, attention: int, part: str) -> tuple[str, str]:
    block = f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
    return f"{block}.processor.to_{part}_lora.down.weight", f"{block}.processor.to_{part}_lora.up.weight"


def distributed(site: str, attention: int, part: str) -> tuple[str, str]:
    """As a training on several GPUs saves them."""
    down, up = official(site, attention, part)
    return f"module.{down}", f"module.{up}"


def converted(site: str, attention: int, part: str) -> tuple[str, str]:
    """For the WebUI's loader, by which a layer's name is its path with underscores."""
    block = f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{attention}"
    layer = f"{block}.to_{part}{'.0' if part == 'out' else ''}".replace(".", "_")
    return f"{layer}.lora_down.weight", f"{layer}.lora_up.weight"


def kohya(site: str, attention: int, part: str) -> tuple[str, str]:
    down, up = converted(site, attention, part)
    return f"lora_unet_{down}", f"lora_unet_{up}"


def diffusers(site: str, attention: int, part: str) -> tuple[str, str]:
    block = f"unet.{site}.transformer_blocks.0.attn{attention + 1}"
    return f"{block}.processor.to_{part}_lora.down.weight", f"{block}.processor.to_{part}_lora.up.weight"


def later_diffusers(site: str, attention: int, part: str) -> tuple[str, str]:
    layer = f"unet.{site}.transformer_blocks.0.attn{attention + 1}.to_{part}{'.0' if part == 'out' else ''}"
    return f"{layer}.lora.down.weight", f"{layer}.lora.up.weight"


def linear_layers(site: str, attention: int, part: str) -> tuple[str, str]:
    down, up = later_diffusers(site, attention, part)
    return down.replace(".lora.", ".lora_linear_layer."), up.replace(".lora.", ".lora_linear_layer.")


def peft(site: str, attention: int, part: str) -> tuple[str, str]:
    down, up = later_diffusers(site, attention, part)
    return down.replace(".lora.down", ".lora_A"), up.replace(".lora.up", ".lora_B")


def peft_with_adapter(site: str, attention: int, part: str) -> tuple[str, str]:
    down, up = peft(site, attention, part)
    return f"base_model.model.{down[5:-7]}.default.weight", f"base_model.model.{up[5:-7]}.default.weight"


SPELLINGS = [
    official,
    distributed,
    converted,
    kohya,
    diffusers,
    later_diffusers,
    linear_layers,
    peft,
    peft_with_adapter,
]
Spelling = Callable[[str, int, str], tuple[str, str]]


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
