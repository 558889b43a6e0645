"""Random motion modules under official names, built from the facts and not from the code under test."""

from __future__ import annotations

import pickle
from functools import cache, lru_cache
from math import prod
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

SMALL_WIDTHS = (32, 64, 128, 128)
SD15_WIDTHS = (320, 640, 1280, 1280)
SDXL_KINDS = ("sdxl", "hotshot")
MID_KINDS = ("v2", "lcm")
TABLE_LENGTHS = {"v1": 24, "v2": 32, "v3": 32, "sdxl": 32, "hotshot": 24, "lcm": 64}
STOCK = 2**25  # random numbers that the weights of full widths are taken from


def random_motion_state(
    kind: str,
    widths: tuple[int, ...] = SMALL_WIDTHS,
    *,
    seed: int = 0,
    tables: bool = True,
    length: int | None = None,
) -> dict[str, Tensor]:
    """State dict of a file of this kind under official names; every weight random, none zero. SDXL takes 3 widths."""
    widths = widths[:3] if kind in SDXL_KINDS else widths
    length = length or TABLE_LENGTHS[kind]
    sites = tuple(official_sites(kind, widths))
    if max(widths) <= max(SMALL_WIDTHS):
        state = {name: weight.clone() for name, weight in kept_weights(sites, seed).items()}
    else:
        state = random_weights(sites, seed)
    for site, channels in sites if tables else ():
        for i in range(2):
            table = literal_positions(length, channels)
            state[f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.{i}.pos_encoder.pe"] = table
    return state


def random_weights(sites: tuple[tuple[str, int], ...], seed: int) -> dict[str, Tensor]:
    """All weights of sites with so many channels."""
    noise = Noise(seed)
    state: dict[str, Tensor] = {}
    for site, channels in sites:
        for name, shape in site_shapes(channels).items():
            fan_in = shape[-1] if len(shape) > 1 else 0
            is_norm_scale = not fan_in and name.endswith("weight")
            drawn = noise.of(shape)
            state[f"{site}.temporal_transformer.{name}"] = (
                drawn * fan_in**-0.5 if fan_in else 0.1 * drawn + is_norm_scale
            )
    return state


kept_weights = lru_cache(maxsize=12)(random_weights)


class Noise:
    """Normal noise; large tensors are taken from one stock, each from a place of its own: hundreds of millions cost."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.stock: Tensor | None = None

    def of(self, shape: tuple[int, ...]) -> Tensor:
        size = prod(shape)
        if size < STOCK // 128:
            return torch.randn(shape, generator=self.generator)
        if self.stock is None:
            self.stock = torch.randn(STOCK, generator=self.generator)
        start = int(torch.randint(STOCK - size + 1, (), generator=self.generator))
        return self.stock[start : start + size].view(shape)


def official_sites(kind: str, widths: tuple[int, ...]) -> list[tuple[str, int]]:
    """Site names and channels: two per level down, three per level up, some have one more in the middle."""
    down = [(f"down_blocks.{i}.motion_modules.{j}", w) for i, w in enumerate(widths) for j in range(2)]
    mid = [("mid_block.motion_modules.0", widths[-1])] if kind in MID_KINDS else []
    up = [(f"up_blocks.{i}.motion_modules.{j}", w) for i, w in enumerate(reversed(widths)) for j in range(3)]
    return down + mid + up


def site_shapes(c: int) -> dict[str, tuple[int, ...]]:
    """Weights of one site with c channels."""
    block = "transformer_blocks.0"
    shapes: dict[str, tuple[int, ...]] = {}
    for name in ("norm", f"{block}.norms.0", f"{block}.norms.1", f"{block}.ff_norm"):
        shapes |= {f"{name}.weight": (c,), f"{name}.bias": (c,)}
    for name in ("proj_in", "proj_out"):
        shapes |= {f"{name}.weight": (c, c), f"{name}.bias": (c,)}
    for i in range(2):
        attention = f"{block}.attention_blocks.{i}"
        shapes |= {f"{attention}.to_{part}.weight": (c, c) for part in "qkv"}
        shapes |= {f"{attention}.to_out.0.weight": (c, c), f"{attention}.to_out.0.bias": (c,)}
    shapes |= {f"{block}.ff.net.0.proj.weight": (8 * c, c), f"{block}.ff.net.0.proj.bias": (8 * c,)}
    shapes |= {f"{block}.ff.net.2.weight": (c, 4 * c), f"{block}.ff.net.2.bias": (c,)}
    return shapes


def literal_positions(length: int, channels: int) -> Tensor:
    """pe[p, 2k] = sin(p * 10000^(-2k/C)), pe[p, 2k+1] = cos(the same)."""
    return kept_positions(length, channels).clone()


@cache
def kept_positions(length: int, channels: int) -> Tensor:
    table = torch.zeros(1, length, channels)
    for k in range(channels // 2):
        angle = torch.arange(length, dtype=torch.float64) * 10000 ** (-2 * k / channels)
        table[0, :, 2 * k], table[0, :, 2 * k + 1] = torch.sin(angle).float(), torch.cos(angle).float()
    return table


def write_motion_file(folder: Path, kind: str = "v3", *, seed: int = 0, name: str | None = None) -> Path:
    """The same as a safetensors file at small widths."""
    path = folder / (name or f"mm_small_{kind}.safetensors")
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(random_motion_state(kind, seed=seed), path)
    return path


def save_legacy(payload: object, path: Path) -> None:
    """As torch wrote before 1.6: no archive."""
    torch.save(payload, path, _use_new_zipfile_serialization=False)


PICKLES = {"zip": torch.save, "legacy": save_legacy}
HEAD = (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True, "type_sizes": {}})
LEGACY_HEAD = b"".join(pickle.dumps(thing, protocol=2) for thing in HEAD)


def renamed(state: dict[str, Tensor], *pairs: tuple[str, str]) -> dict[str, Tensor]:
    """With pieces of the names replaced, one after the other."""
    for old, new in pairs:
        state = {key.replace(old, new): tensor for key, tensor in state.items()}
    return state


def as_adapter(state: dict[str, Tensor], *, tables: bool = True) -> dict[str, Tensor]:
    """As diffusers' MotionAdapter names them; one table for both attentions, which older versions did not write."""
    state = {key: tensor for key, tensor in state.items() if tables or not key.endswith(".pe")}
    state = {key: tensor for key, tensor in state.items() if "attention_blocks.1.pos_encoder" not in key}
    return renamed(
        state,
        (".temporal_transformer.", "."),
        (".attention_blocks.0.pos_encoder.pe", ".pos_embed.pe"),
        (".attention_blocks.0.", ".attn1."),
        (".attention_blocks.1.", ".attn2."),
        (".norms.0.", ".norm1."),
        (".norms.1.", ".norm2."),
        (".ff_norm.", ".norm3."),
    )


def adapter_config(kind: str, widths: tuple[int, ...]) -> dict[str, object]:
    """What diffusers writes beside them."""
    return {
        "_class_name": "MotionAdapter",
        "_diffusers_version": "0.30.0",
        "block_out_channels": list(widths[:3] if kind in SDXL_KINDS else widths),
        "motion_layers_per_block": 2,
        "motion_max_seq_length": TABLE_LENGTHS[kind],
        "motion_norm_num_groups": 32,
        "motion_num_attention_heads": 8,
        "use_motion_mid_block": kind in MID_KINDS,
    }


def as_hotshot(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As HotShot-XL names them."""
    state = renamed(state, (".temporal_transformer.", "."), (".motion_modules.", ".temporal_attentions."))
    return renamed(state, ("pos_encoder.pe", "pos_encoder.positional_encoding"))


def as_animatelcm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As AnimateLCM names its tables where it writes them."""
    return renamed(state, ("pos_encoder.pe", "pos_encoder.pos_encoding"))


def in_whole_unet(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Among the UNet's own weights, as a training checkpoint of all of it has them."""
    unet = {
        "conv_in.weight": (32, 4, 3, 3),
        "time_embedding.linear_1.weight": (128, 32),
        "down_blocks.0.resnets.0.norm1.weight": (32,),
        "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight": (32, 768),
        "mid_block.resnets.0.conv1.weight": (32, 32, 3, 3),
    }
    return {**{name: torch.ones(shape) for name, shape in unet.items()}, **state}
