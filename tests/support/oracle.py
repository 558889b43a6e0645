"""A literal motion module, written from the paper's facts sentence by sentence and slow on purpose.

It shares no code with the package: plain tensor operations on a state dict, one loop per thing that the description
says one by one. `inserted` puts it into a UNet by really editing the UNet, the way the official code does.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable

import torch
from support.motion_files import literal_positions
from torch import Tensor, nn

HEADS = 8


def literal_site(
    weights: dict[str, Tensor],
    x: Tensor,
    frames: int,
    *,
    shared_norm: bool = False,
    scale: Tensor | None = None,
    effect: Tensor | None = None,
    views: list[tuple[tuple[int, ...], list[float]]] | None = None,
) -> Tensor:
    """One temporal transformer on rows (clip-major, frames inside); x is rows, channels, height, width.

    Scale and effect: frames, height, width. Views: frames that see each other, with their weights.
    """
    if shared_norm:
        normed = literal_clip_norm(x, frames, weights["norm.weight"], weights["norm.bias"])
    else:
        normed = literal_group_norm(x, weights["norm.weight"], weights["norm.bias"])
    rows, channels, height, width = x.shape
    tokens = normed.permute(0, 2, 3, 1).reshape(rows, height * width, channels)
    tokens = tokens @ weights["proj_in.weight"].T + weights["proj_in.bias"]
    block = "transformer_blocks.0."
    for clip in range(rows // frames):
        own = slice(clip * frames, (clip + 1) * frames)
        total, counts = torch.zeros_like(tokens[own]), [0.0] * frames
        for window, shares in views or [(tuple(range(frames)), [1.0] * frames)]:
            seen = torch.stack([tokens[own][frame] for frame in window])
            keys = None if scale is None else torch.stack([scale[frame].flatten() for frame in window])
            for i in range(2):
                normed_tokens = literal_layer_norm(seen, weights, f"{block}norms.{i}")
                seen = seen + literal_attention(normed_tokens, weights, f"{block}attention_blocks.{i}.", keys)
            for place, frame in enumerate(window):
                total[frame] += shares[place] * seen[place]
                counts[frame] += shares[place]
        tokens[own] = torch.stack([total[frame] / counts[frame] for frame in range(frames)])
    normed_tokens = literal_layer_norm(tokens, weights, f"{block}ff_norm")
    hidden = normed_tokens @ weights[f"{block}ff.net.0.proj.weight"].T + weights[f"{block}ff.net.0.proj.bias"]
    value, gate = hidden[..., : 4 * channels], hidden[..., 4 * channels :]
    hidden = value * (0.5 * gate * (1 + torch.erf(gate / math.sqrt(2))))
    tokens = tokens + hidden @ weights[f"{block}ff.net.2.weight"].T + weights[f"{block}ff.net.2.bias"]
    tokens = tokens @ weights["proj_out.weight"].T + weights["proj_out.bias"]
    motion = tokens.reshape(rows, height, width, channels).permute(0, 3, 1, 2)
    if effect is None:
        return x + motion
    mixed = torch.empty_like(x)
    for row in range(rows):  # of the picture without motion and the one with it
        share = effect[row % frames][None]
        mixed[row] = x[row] * (1 - share) + (x[row] + motion[row]) * share
    return mixed


def literal_attention(tokens: Tensor, weights: dict[str, Tensor], prefix: str, scale: Tensor | None) -> Tensor:
    """Frames of one clip attend to each other, position by position; positions are added before q, k and v."""
    frames, _, channels = tokens.shape
    tokens = tokens + literal_positions(frames, channels).to(tokens)[0][:, None, :]
    q, k, v = (tokens @ weights[f"{prefix}to_{part}.weight"].T for part in "qkv")
    if scale is not None:
        k = k * scale[:, :, None]
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


def literal_clip_norm(x: Tensor, frames: int, weight: Tensor, bias: Tensor, eps: float = 1e-6) -> Tensor:
    """32 groups, mean and variance over all frames of a clip, clip by clip and group by group."""
    exact = x.to(torch.promote_types(x.dtype, torch.float32))
    out = torch.empty_like(exact)
    size = x.shape[1] // 32
    for clip in range(len(x) // frames):
        for group in range(32):
            part = (slice(clip * frames, (clip + 1) * frames), slice(group * size, (group + 1) * size))
            values = exact[part]
            out[part] = (values - values.mean()) / torch.sqrt(values.var(unbiased=False) + eps)
    return (out * weight[None, :, None, None] + bias[None, :, None, None]).to(x.dtype)


def literal_layer_norm(x: Tensor, weights: dict[str, Tensor], name: str) -> Tensor:
    mean, var = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(var + 1e-5) * weights[f"{name}.weight"] + weights[f"{name}.bias"]


class LiteralSite(nn.Module):
    """`literal_site` as a layer."""

    def __init__(self, state: dict[str, Tensor], site: str, frames: int, shared_norm: bool) -> None:
        super().__init__()
        prefix = f"{site}.temporal_transformer."
        self.weights = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
        assert self.weights, site
        self.site, self.frames, self.shared_norm = site, frames, shared_norm

    def forward(self, x: Tensor) -> Tensor:
        return literal_site(self.weights, x, self.frames, shared_norm=self.shared_norm)


class Followed(nn.Module):
    """A diffusers layer with a literal site behind it."""

    def __init__(self, layer: nn.Module, site: LiteralSite) -> None:
        super().__init__()
        self.layer, self.site = layer, site

    def forward(self, *args: object, **kwargs: object) -> object:
        out = self.layer(*args, **kwargs)
        return (self.site(out[0]), *out[1:]) if isinstance(out, tuple) else self.site(out)


class ClipNorm(nn.Module):
    """A group norm of the UNet, over all frames of a clip."""

    def __init__(self, norm: nn.GroupNorm, frames: int) -> None:
        super().__init__()
        assert norm.num_groups == 32
        self.weight, self.bias, self.eps, self.frames = norm.weight, norm.bias, norm.eps, frames

    def forward(self, x: Tensor) -> Tensor:
        return literal_clip_norm(x, self.frames, self.weight, self.bias, self.eps)


def insert_into_ldm(unet: nn.Module, state: dict[str, Tensor], frames: int, *, shared_norm: bool = False) -> None:
    """By the indices of the published table: input_blocks[1 + 3i + j], output_blocks[3i + j], before an Upsample."""
    levels = levels_of(state)
    for i in range(levels):
        for j in range(2):
            site = LiteralSite(state, f"down_blocks.{i}.motion_modules.{j}", frames, shared_norm)
            unet.input_blocks[1 + 3 * i + j].append(site)
        for j in range(3):
            site = LiteralSite(state, f"up_blocks.{i}.motion_modules.{j}", frames, shared_norm)
            block = unet.output_blocks[3 * i + j]
            has_upsample = j == 2 and i < levels - 1
            block.insert(len(block) - 1 if has_upsample else len(block), site)
    if any(key.startswith("mid_block") for key in state):
        unet.middle_block.insert(2, LiteralSite(state, "mid_block.motion_modules.0", frames, shared_norm))


def insert_into_diffusers(unet: nn.Module, state: dict[str, Tensor], frames: int, *, shared_norm: bool = False) -> None:
    """After each attention, or after the resnet in the blocks without one: SD 1.5's smallest level, SDXL's largest."""
    without = {4: (("down_blocks", 3), ("up_blocks", 0)), 3: (("down_blocks", 0), ("up_blocks", 2))}[levels_of(state)]
    for path, blocks in (("down_blocks", unet.down_blocks), ("up_blocks", unet.up_blocks)):
        for i, block in enumerate(blocks):
            layers = block.resnets if (path, i) in without else block.attentions
            for j in range(2 if path == "down_blocks" else 3):
                site = LiteralSite(state, f"{path}.{i}.motion_modules.{j}", frames, shared_norm)
                layers[j] = Followed(layers[j], site)
    if any(key.startswith("mid_block") for key in state):
        site = LiteralSite(state, "mid_block.motion_modules.0", frames, shared_norm)
        unet.mid_block.attentions[0] = Followed(unet.mid_block.attentions[0], site)


def levels_of(state: dict[str, Tensor]) -> int:
    return len({key.split(".")[1] for key in state if key.startswith("down_blocks.")})


def share_norms_of_ldm(unet: nn.Module, frames: int) -> None:
    """In every ResBlock the norm before each of its two convolutions; and the norm before the last convolution."""
    for block in [*unet.input_blocks, unet.middle_block, *unet.output_blocks]:
        for layer in block:
            if hasattr(layer, "in_layers"):
                layer.in_layers[0] = ClipNorm(layer.in_layers[0], frames)
                layer.out_layers[0] = ClipNorm(layer.out_layers[0], frames)
    unet.out[0] = ClipNorm(unet.out[0], frames)


def share_norms_of_diffusers(unet: nn.Module, frames: int) -> None:
    """The same under diffusers' names."""
    for block in [*unet.down_blocks, unet.mid_block, *unet.up_blocks]:
        for resnet in block.resnets:
            resnet = getattr(resnet, "layer", resnet)  # it may be `Followed` already
            resnet.norm1, resnet.norm2 = ClipNorm(resnet.norm1, frames), ClipNorm(resnet.norm2, frames)
    unet.conv_norm_out = ClipNorm(unet.conv_norm_out, frames)


INSERT = {"ldm": insert_into_ldm, "diffusers": insert_into_diffusers}
SHARE_NORMS = {"ldm": share_norms_of_ldm, "diffusers": share_norms_of_diffusers}


def set_frames(unet: nn.Module, frames: int) -> nn.Module:
    """The same edited UNet for clips of another length."""
    for layer in unet.modules():
        if isinstance(layer, (LiteralSite, ClipNorm)):
            layer.frames = frames
    return unet


def edited(
    unet: nn.Module,
    host: str,
    state: dict[str, Tensor],
    frames: int,
    *,
    shared_resnet_norms: bool = False,
    shared_own_norm: bool = False,
) -> nn.Module:
    """A copy of a UNet with a literal motion module in it, for clips of so many frames."""
    unet = copy.deepcopy(unet)
    INSERT[host](unet, state, frames, shared_norm=shared_own_norm)
    if shared_resnet_norms:
        SHARE_NORMS[host](unet, frames)
    return unet


def literal_weights(fusion: str, window: tuple[int, ...], frames: int, overlap: int, *, has_ends: bool) -> list[float]:
    """What each place in a context window counts, spelled out from the descriptions."""
    n = len(window)
    if fusion == "flat":
        return [1.0] * n
    if fusion == "pyramid":
        rising = list(range(1, n // 2 + 1))
        middle = [n // 2 + 1] if n % 2 else []
        return [float(w) for w in rising + middle + rising[::-1]]
    weights = [1.0] * n
    for i in range(min(overlap, n)):
        ramp = (i + 1) / (overlap + 1)
        if not (has_ends and 0 in window):
            weights[i] = min(weights[i], ramp)
        if not (has_ends and frames - 1 in window):
            weights[n - 1 - i] = min(weights[n - 1 - i], ramp)
    return weights


def literal_fusion(
    call: Callable[[dict[str, Tensor], int], Tensor],
    given: dict[str, Tensor],
    frames: int,
    plan: list[tuple[int, ...]],
    weights: list[list[float]],
) -> Tensor:
    """Frame by frame the weighted average over all windows that hold it; `call` computes one clip of a window.

    `given` has rows for streams times clips, each of them computed by itself.
    """
    out = torch.zeros_like(given["x"])
    for first in range(0, len(out), frames):
        seen = [
            call({key: torch.stack([value[first + frame] for frame in window]) for key, value in given.items()}, i)
            for i, window in enumerate(plan)
        ]
        for frame in range(frames):
            places = [(i, window.index(frame)) for i, window in enumerate(plan) if frame in window]
            total = sum(weights[i][place] for i, place in places)
            for i, place in places:
                out[first + frame] += weights[i][place] / total * seen[i][place]
    return out
