"""A tiny decoder as diffusers makes it, at a small width and with random weights, and files of it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

WIDTH = 8


def tiny_autoencoder():
    from diffusers import AutoencoderTiny

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return AutoencoderTiny(encoder_block_out_channels=(WIDTH,) * 4, decoder_block_out_channels=(WIDTH,) * 4)


def weights_of(tiny, named: str) -> dict[str, torch.Tensor]:
    """By the names of diffusers, of the original decoder, or of the original file with both halves."""
    if named == "diffusers":
        return tiny.state_dict()
    renamed = {}
    for name, weight in tiny.decoder.state_dict().items():  # a first layer without weights is counted, too
        number, rest = name.removeprefix("layers.").split(".", 1)
        renamed[f"{'decoder.' * (named == 'whole')}{int(number) + 1}.{rest}"] = weight
    return renamed


def write_tiny_decoder(path: Path, named: str = "original", without: str = "") -> Path:
    weights = weights_of(tiny_autoencoder(), named)
    save_file({name: weight.contiguous() for name, weight in weights.items() if name != without}, path)
    return path
