"""A literal motion module, written from the paper's facts sentence by sentence and slow on purpose.

It shares no code with the package: plain tensor operations on a state dict, one loop per thing that the description
says one by one. `inserted` puts it into a UNet by really editing the UNet, the way the official code does.
"""

from __future__ import annotations

import math

import torch
from motion_files import literal_positions
from torch import Tensor, nn

HEADS = 8


def literal_site(weights: dict[str, Tensor], x: Tensor, frames: int) -> Tensor:
    """One temporal transformer on rows (clip-major, frames inside); x is rows, channels, height, width."""
    normed = literal_group_norm(x, weights["norm.weight"], weights["norm.bias"])
    rows, channels, height, width = x.shape
    tokens = normed.permute(0, 2, 3, 1).reshape(rows, height * width, channels)
    tokens = tokens @ weights["proj_in.weight"].T + weights["proj_in.bias"]
    block = "transformer_blocks.0."
    for i in range(2):
        normed_tokens = literal_layer_norm(tokens, weights, f"{block}norms.{i}")
        mixed = torch.empty_like(tokens)
        for clip in range(rows // frames):
            own = slice(clip * frames, (clip + 1) * frames)
            mixed[own] = literal_attention(normed_tokens[own], weights, f"{block}attention_blocks.{i}.")
        tokens = tokens + mixed
    normed_tokens = literal_layer_norm(tokens, weights, f"{block}ff_norm")
    hidden = normed_tokens @ weights[f"{block}ff.net.0.proj.weight"].T + weights[f"{block}ff.net.0.proj.bias"]
    value, gate = hidden[..., : 4 * channels], hidden[..., 4 * channels :]
    hidden = value * (0.5 * gate * (1 + torch.erf(gate / math.sqrt(2))))
    tokens = tokens + hidden @ weights[f"{block}ff.net.2.weight"].T + weights[f"{block}ff.net.2.bias"]
    tokens = tokens @ weights["proj_out.weight"].T + weights["proj_out.bias"]
    return x + tokens.reshape(rows, height, width, channels).permute(0, 3, 1, 2)


def literal_attention(tokens: Tensor, weights: dict[str, Tensor], prefix: str) -> Tensor:
    """Frames of one clip attend to each other, position by position; positions are added before q, k and v."""
    frames, _, channels = tokens.shape
    tokens = tokens + literal_positions(frames, channels).to(tokens)[0][:, None, :]
    q, k, v = (tokens @ weights[f"{prefix}to_{part}.weight"].T for part in "qkv")
    size = channels // HEADS
    out = torch.empty_like(tokens)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = torch.einsum("fdc,gdc->dfg", q[..., part], k[..., part]) / math.sqrt(size)
        out[..., part] = torch.einsum("dfg,gdc->fdc", scores.softmax(-1), v[..., part])
    return out @ weights[f"{prefix}to_out.0.weight"].T + weights[f"{prefix}to_out.0.bias"]


def literal_group_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """32 groups, each frame by itself, eps 1e-6."""
    rows, channels, height, width = x.shape
    groups = x.reshape(rows, 32, -1)
    mean, var = groups.mean(-1, keepdim=True), groups.var(-1, unbiased=False, keepdim=True)
    normed = ((groups - mean) / torch.sqrt(var + 1e-6)).reshape(rows, channels, height, width)
    return normed * weight[None, :, None, None] + bias[None, :, None, None]


def literal_layer_norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


class LiteralSite(nn.Module):
    """`literal_site` as a layer."""

    def __init__(self, state: dict[str, Tensor], site: str, frames: int) -> None:
        super().__init__()
        prefix = f"{site}.temporal_transformer."
        self.weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        assert self.weights, site
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        return literal_site(self.weights, x, self.frames)


class Followed(nn.Module):
    """A diffusers layer with a literal site behind it."""

    def __init__(self, layer: nn.Module, site: LiteralSite) -> None:
        super().__init__()
        self.layer, self.site = layer, site

    def forward(self, *args: object, **kwargs: object) -> object:
        out = self.layer(*args, **kwargs)
        return (self.site(out[0]), *out[1:]) if isinstance(out, tuple) else self.site(out)


def insert_into_ldm(unet: nn.Module, state: dict[str, Tensor], frames: int) -> None:
    """By the indices of the published table: input_blocks[1 + 3i + j], output_blocks[3i + j], before an Upsample."""
    for i in range(4):
        for j in range(2):
            site = LiteralSite(state, f"down_blocks.{i}.motion_modules.{j}", frames)
            unet.input_blocks[1 + 3 * i + j].append(site)
        for j in range(3):
            site = LiteralSite(state, f"up_blocks.{i}.motion_modules.{j}", frames)
            block = unet.output_blocks[3 * i + j]
            has_upsample = j == 2 and i < 3
            block.insert(len(block) - 1 if has_upsample else len(block), site)
    if any(key.startswith("mid_block") for key in state):
        unet.middle_block.insert(2, LiteralSite(state, "mid_block.motion_modules.0", frames))


def insert_into_diffusers(unet: nn.Module, state: dict[str, Tensor], frames: int) -> None:
    """After each attention, or after the resnet in the blocks without one: down 3 and up 0 of SD 1.5."""
    for path, blocks in (("down_blocks", unet.down_blocks), ("up_blocks", unet.up_blocks)):
        for i, block in enumerate(blocks):
            plain = (path, i) in (("down_blocks", 3), ("up_blocks", 0))
            layers = block.resnets if plain else block.attentions
            for j in range(2 if path == "down_blocks" else 3):
                layers[j] = Followed(layers[j], LiteralSite(state, f"{path}.{i}.motion_modules.{j}", frames))
    if any(key.startswith("mid_block") for key in state):
        attentions = unet.mid_block.attentions
        attentions[0] = Followed(attentions[0], LiteralSite(state, "mid_block.motion_modules.0", frames))
