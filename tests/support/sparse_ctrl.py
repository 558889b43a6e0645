"""SparseCtrl encoders from the facts: random weights in every spelling, and a literal encoder, frame by frame."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from support.motion_files import SMALL_WIDTHS, Noise, literal_positions, renamed, site_shapes
from torch import Tensor

from motion_module.sparse_ctrl.network import EncoderLayout, SparseCtrl

CONTEXT = 64  # numbers of a text condition of `hosts`
HEADS = 8
LENGTH = 32
MOTION = "down_blocks.{}.motion_modules.{}.temporal_transformer."
SECOND = ("norms.1.", "attention_blocks.1.")  # of motion modules; the encoder's temporal transformers have one of each


def shapes(kind: str, widths: tuple[int, ...] = SMALL_WIDTHS, context: int = CONTEXT) -> dict[str, tuple[int, ...]]:
    """Official names and shapes, without positional tables."""
    found: dict[str, tuple[int, ...]] = {}
    first, last = widths[0], widths[-1]

    def layer(name: str, *shape: int, bias: bool = True) -> None:
        found[f"{name}.weight"] = shape
        if bias:
            found[f"{name}.bias"] = shape[:1]

    def resnet(name: str, before: int, width: int) -> None:
        layer(f"{name}.norm1", before)
        layer(f"{name}.conv1", width, before, 3, 3)
        layer(f"{name}.time_emb_proj", width, 4 * first)
        layer(f"{name}.norm2", width)
        layer(f"{name}.conv2", width, width, 3, 3)
        if before != width:
            layer(f"{name}.conv_shortcut", width, before, 1, 1)

    def attention(name: str, c: int) -> None:
        layer(f"{name}.norm", c)
        layer(f"{name}.proj_in", c, c, 1, 1)
        block = f"{name}.transformer_blocks.0"
        for number, source in ((1, c), (2, context)):
            layer(f"{block}.attn{number}.to_q", c, c, bias=False)
            layer(f"{block}.attn{number}.to_k", c, source, bias=False)
            layer(f"{block}.attn{number}.to_v", c, source, bias=False)
            layer(f"{block}.attn{number}.to_out.0", c, c)
        for number in (1, 2, 3):
            layer(f"{block}.norm{number}", c)
        layer(f"{block}.ff.net.0.proj", 8 * c, c)
        layer(f"{block}.ff.net.2", c, 4 * c)
        layer(f"{name}.proj_out", c, c, 1, 1)

    layer("conv_in", first, 4, 3, 3)
    layer("time_embedding.linear_1", 4 * first, first)
    layer("time_embedding.linear_2", 4 * first, 4 * first)
    if kind == "rgb":
        layer("controlnet_cond_embedding", first, 5, 3, 3)
    else:
        layer("controlnet_cond_embedding.conv_in", 16, 4, 3, 3)
        for i, (a, b) in enumerate([(16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256)]):
            layer(f"controlnet_cond_embedding.blocks.{i}", b, a, 3, 3)
        layer("controlnet_cond_embedding.conv_out", first, 256, 3, 3)
    for level, width in enumerate(widths):
        for j in (0, 1):
            resnet(f"down_blocks.{level}.resnets.{j}", widths[max(level - 1, 0)] if j == 0 else width, width)
            if level < 3:
                attention(f"down_blocks.{level}.attentions.{j}", width)
            for name, shape in site_shapes(width).items():
                if not any(part in name for part in SECOND):
                    found[MOTION.format(level, j) + name] = shape
        if level < 3:
            layer(f"down_blocks.{level}.downsamplers.0.conv", width, width, 3, 3)
    resnet("mid_block.resnets.0", last, last)
    attention("mid_block.attentions.0", last)
    resnet("mid_block.resnets.1", last, last)
    of_skips = [first, *[c for level, c in enumerate(widths) for _ in range(3 if level < 3 else 2)]]
    for number, c in enumerate(of_skips):
        layer(f"controlnet_down_blocks.{number}", c, c, 1, 1)
    layer("controlnet_mid_block", last, last, 1, 1)
    return found


def random_state(kind: str, *, seed: int = 0, tables: bool = False, **sizes) -> dict[str, Tensor]:
    """Every weight random, none zero; norms near one."""
    noise, state = Noise(seed), {}
    for name, shape in shapes(kind, **sizes).items():
        drawn = noise.of(shape)
        fan_in = math.prod(shape[1:])
        state[name] = drawn * fan_in**-0.5 if len(shape) > 1 else 0.1 * drawn + ("norm" in name and name[-1] == "t")
    if tables:
        for name in [name for name in state if name.endswith("attention_blocks.0.to_q.weight")]:
            table = literal_positions(LENGTH, state[name].shape[0])
            state[name.replace("to_q.weight", "pos_encoder.pe")] = table
    return state


@cache
def shared_encoder(kind: str, widths: tuple[int, ...] = SMALL_WIDTHS) -> tuple[SparseCtrl, dict[str, Tensor]]:
    """An encoder for `hosts` at small widths, made once, with the weights that it was made from."""
    state = random_state(kind, widths=widths)
    layout = EncoderLayout(kind, widths, CONTEXT, LENGTH)
    return SparseCtrl.from_state_dict(dict(state), layout, f"sparsectrl_{kind}.safetensors"), state


def as_diffusers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As diffusers names them: the temporal transformers as in its motion adapters."""
    pairs = [
        (".temporal_transformer.", "."),
        (".attention_blocks.0.pos_encoder.pe", ".pos_embed.pe"),
        (".attention_blocks.0.", ".attn1."),
        (".norms.0.", ".norm1."),
        (".ff_norm.", ".norm3."),
    ]
    motion = {name: tensor for name, tensor in state.items() if "motion_modules" in name}
    return {**{name: t for name, t in state.items() if name not in motion}, **renamed(motion, *pairs)}


def as_mixed(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """As the files for sd-webui-controlnet: LDM's names among official ones for the temporal transformers."""
    pairs = [("time_embedding.linear_1.", "time_embed.0."), ("time_embedding.linear_2.", "time_embed.2.")]
    pairs += [("conv_in.", "input_blocks.0.0.")]
    for level in range(4):
        for j in (0, 1):
            place = f"input_blocks.{1 + 3 * level + j}"
            pairs += [(f"down_blocks.{level}.resnets.{j}.", f"{place}.0.")]
            pairs += [(f"down_blocks.{level}.attentions.{j}.", f"{place}.1.")]
        pairs += [(f"down_blocks.{level}.downsamplers.0.conv.", f"input_blocks.{3 * level + 3}.0.op.")]
    pairs += [("mid_block.resnets.0.", "middle_block.0."), ("mid_block.attentions.0.", "middle_block.1.")]
    pairs += [("mid_block.resnets.1.", "middle_block.2."), ("controlnet_mid_block.", "middle_block_out.0.")]
    pairs += [(f"controlnet_down_blocks.{number}.", f"zero_convs.{number}.0.") for number in range(12)]
    parts = [("norm1.", "in_layers.0."), ("conv1.", "in_layers.2."), ("time_emb_proj.", "emb_layers.1.")]
    parts += [("norm2.", "out_layers.0."), ("conv2.", "out_layers.3."), ("conv_shortcut.", "skip_connection.")]

    def ldm(name: str) -> str:
        if "motion_modules" in name:
            return name
        if name.startswith("controlnet_cond_embedding."):
            return name.replace("controlnet_cond_embedding.", "input_hint_block.0.")
        for ours, theirs in parts if ".resnets." in name else ():
            name = name.replace(ours, theirs)
        return next((theirs + name.removeprefix(ours) for ours, theirs in pairs if name.startswith(ours)), name)

    return {ldm(name): tensor for name, tensor in state.items()}


# --------------------------------------------------------------------------------------------------------------------
# a literal encoder


def _conv(state, name, x, **options):
    return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)


def _linear(state, name, x):
    return x @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0)


def _group_norm(state, name, x, eps):
    """Of one row: mean and variance of each of 32 groups over that row's positions."""
    out = torch.empty_like(x)
    for row in range(len(x)):
        groups = x[row].double().reshape(32, -1)
        normed = (groups - groups.mean(1, keepdim=True)) / (groups.var(1, keepdim=True, unbiased=False) + eps).sqrt()
        out[row] = normed.reshape(x[row].shape).to(x.dtype)
    return out * state[f"{name}.weight"][:, None, None] + state[f"{name}.bias"][:, None, None]


def _layer_norm(state, name, x):
    centred = x - x.mean(-1, keepdim=True)
    normed = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
    return normed * state[f"{name}.weight"] + state[f"{name}.bias"]


def _attend(state, name, x, source):
    """`n tokens c`, each head by itself."""
    q, k, v = (_linear(state, f"{name}.to_{part}", t) for part, t in (("q", x), ("k", source), ("v", source)))
    size = q.shape[-1] // HEADS
    heads = []
    for head in range(HEADS):
        at = slice(head * size, (head + 1) * size)
        heads.append(torch.softmax(q[..., at] @ k[..., at].transpose(1, 2) / size**0.5, -1) @ v[..., at])
    return _linear(state, f"{name}.to_out.0", torch.cat(heads, -1))


def _feed_forward(state, name, x):
    value, gate = _linear(state, f"{name}.net.0.proj", x).chunk(2, -1)
    return _linear(state, f"{name}.net.2", value * F.gelu(gate))


def _resnet(state, name, x, embedding):
    h = _conv(state, f"{name}.conv1", F.silu(_group_norm(state, f"{name}.norm1", x, 1e-5)), padding=1)
    h = h + _linear(state, f"{name}.time_emb_proj", F.silu(embedding))[:, :, None, None]
    h = _conv(state, f"{name}.conv2", F.silu(_group_norm(state, f"{name}.norm2", h, 1e-5)), padding=1)
    has_shortcut = f"{name}.conv_shortcut.weight" in state
    return h + (_conv(state, f"{name}.conv_shortcut", x) if has_shortcut else x)


def _spatial(state, name, x, context):
    block, (_, _, height, width) = f"{name}.transformer_blocks.0", x.shape
    h = _conv(state, f"{name}.proj_in", _group_norm(state, f"{name}.norm", x, 1e-6)).flatten(2).transpose(1, 2)
    normed = _layer_norm(state, f"{block}.norm1", h)
    h = h + _attend(state, f"{block}.attn1", normed, normed)
    h = h + _attend(state, f"{block}.attn2", _layer_norm(state, f"{block}.norm2", h), context)
    h = h + _feed_forward(state, f"{block}.ff", _layer_norm(state, f"{block}.norm3", h))
    return x + _conv(state, f"{name}.proj_out", h.transpose(1, 2).unflatten(2, (height, width)))


def _temporal(state, name, x):
    """One clip `f c h w`: at each position its frames attend to one another."""
    block, (_, _, height, width) = f"{name}transformer_blocks.0", x.shape
    h = _group_norm(state, f"{name}norm", x, 1e-6).flatten(2).permute(2, 0, 1)
    h = _linear(state, f"{name}proj_in", h)
    normed = _layer_norm(state, f"{block}.norms.0", h) + literal_positions(LENGTH, h.shape[-1])[:, : h.shape[1]].to(h)
    h = h + _attend(state, f"{block}.attention_blocks.0", normed, normed)
    h = h + _feed_forward(state, f"{block}.ff", _layer_norm(state, f"{block}.ff_norm", h))
    h = _linear(state, f"{name}proj_out", h)
    return x + h.permute(1, 2, 0).unflatten(2, (height, width))


def literal_residuals(state, conditions, t, context, frames):
    """Residuals of one clip: the 12 skips' and the middle's.

    `conditions` has a tensor `c H W` for each given frame; `t` and `context` have one entry for each frame.
    """
    some = next(iter(conditions.values()))
    given = some.new_zeros(frames, some.shape[0] + 1, *some.shape[1:])
    for frame, condition in conditions.items():
        given[frame, :-1], given[frame, -1] = condition, 1
    name = "controlnet_cond_embedding"
    if f"{name}.weight" in state:
        embedded = _conv(state, name, given, padding=1)
    else:
        h = F.silu(_conv(state, f"{name}.conv_in", given, padding=1))
        for i in range(6):
            h = F.silu(_conv(state, f"{name}.blocks.{i}", h, padding=1, stride=1 + i % 2))
        embedded = _conv(state, f"{name}.conv_out", h, padding=1)
    half = state["conv_in.bias"].shape[0] // 2
    angles = t.float()[:, None] * torch.exp(-math.log(10000) * torch.arange(half) / half)  # single precision, as usual
    waves = torch.cat([torch.cos(angles), torch.sin(angles)], 1).to(state["conv_in.bias"].dtype)
    embedding = F.silu(_linear(state, "time_embedding.linear_1", waves))
    embedding = _linear(state, "time_embedding.linear_2", embedding)
    x = embedded + state["conv_in.bias"][:, None, None]
    kept = [x]
    for level in range(4):
        for j in (0, 1):
            x = _resnet(state, f"down_blocks.{level}.resnets.{j}", x, embedding)
            if level < 3:
                x = _spatial(state, f"down_blocks.{level}.attentions.{j}", x, context)
            x = _temporal(state, MOTION.format(level, j), x)
            kept.append(x)
        if level < 3:
            x = _conv(state, f"down_blocks.{level}.downsamplers.0.conv", x, padding=1, stride=2)
            kept.append(x)
    x = _resnet(state, "mid_block.resnets.0", x, embedding)
    x = _spatial(state, "mid_block.attentions.0", x, context)
    x = _resnet(state, "mid_block.resnets.1", x, embedding)
    skips = [_conv(state, f"controlnet_down_blocks.{number}", each) for number, each in enumerate(kept)]
    return skips, _conv(state, "controlnet_mid_block", x)
