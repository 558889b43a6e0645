"""CameraCtrl from the facts: random weights, literal rays, a literal encoder, and a literal merge, frame by frame."""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from support.motion_files import SMALL_WIDTHS, Noise, literal_positions, official_sites
from support.oracle import LiteralSite, edited, literal_attention, literal_group_norm, literal_layer_norm
from torch import Tensor, nn

from motion_module.camera_ctrl.network import CameraCtrl, CameraLayout
from motion_module.camera_ctrl.poses import CameraPose

HEADS, LENGTH = 8, 16
MERGE = "{}.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.qkv_merge.{}"


def encoder_shapes(widths: tuple[int, ...] = SMALL_WIDTHS) -> dict[str, tuple[int, ...]]:
    """Official names and shapes of the encoder, without positional tables."""
    found: dict[str, tuple[int, ...]] = {
        "encoder_conv_in.weight": (widths[0], 384, 3, 3),
        "encoder_conv_in.bias": widths[:1],
    }
    for level, c in enumerate(widths):
        before = widths[level - 1] if level else c
        for j in (0, 1):
            name = f"encoder_down_conv_blocks.{level}.{j}"
            found |= {f"{name}.block1.weight": (c, c, 3, 3), f"{name}.block1.bias": (c,)}
            found |= {f"{name}.block2.weight": (c, c, 1, 1), f"{name}.block2.bias": (c,)}
            if j == 0 and before != c:
                found |= {f"{name}.in_conv.weight": (c, before, 1, 1), f"{name}.in_conv.bias": (c,)}
            name = f"encoder_down_attention_blocks.{level}.{j}"
            found |= {f"{name}.attention_blocks.0.to_{part}.weight": (c, c) for part in "qkv"}
            found |= {f"{name}.attention_blocks.0.to_out.0.weight": (c, c)}
            found |= {f"{name}.attention_blocks.0.to_out.0.bias": (c,)}
            for norm in ("norms.0", "ff_norm"):
                found |= {f"{name}.{norm}.weight": (c,), f"{name}.{norm}.bias": (c,)}
            found |= {f"{name}.ff.net.0.proj.weight": (8 * c, c), f"{name}.ff.net.0.proj.bias": (8 * c,)}
            found |= {f"{name}.ff.net.2.weight": (c, 4 * c), f"{name}.ff.net.2.bias": (c,)}
    return found


def merge_shapes(widths: tuple[int, ...] = SMALL_WIDTHS) -> dict[str, tuple[int, ...]]:
    """The same of the merges, at the 20 sites of a motion module without middle block."""
    found: dict[str, tuple[int, ...]] = {}
    for site, c in official_sites("v3", widths):
        found |= {MERGE.format(site, "weight"): (c, c), MERGE.format(site, "bias"): (c,)}
    return found


def random_state(
    widths: tuple[int, ...] = SMALL_WIDTHS, *, seed: int = 4, tables: bool = False, length: int = LENGTH
) -> dict[str, Tensor]:
    """Every weight random, none zero; norms near one."""
    noise, state = Noise(seed), {}
    for name, shape in (encoder_shapes(widths) | merge_shapes(widths)).items():
        drawn = noise.of(shape)
        fan_in = math.prod(shape[1:])
        state[name] = drawn * fan_in**-0.5 if len(shape) > 1 else 0.1 * drawn + ("norm" in name and name[-1] == "t")
        if "qkv_merge" in name:
            state[name] *= 0.3  # so that attention is not so sharp that it multiplies rounding
    if tables:
        for name in [name for name in state if name.endswith("attention_blocks.0.to_q.weight")]:
            table = literal_positions(length, state[name].shape[0])
            state[name.replace("to_q.weight", "pos_encoder.pe")] = table
    return state


@cache
def shared_camera(widths: tuple[int, ...] = SMALL_WIDTHS, length: int = LENGTH) -> tuple[CameraCtrl, dict[str, Tensor]]:
    """A model for `hosts` at small widths, made once, with the weights that it was made from."""
    state = random_state(widths)
    return CameraCtrl.from_state_dict(dict(state), CameraLayout(widths, length), "CameraCtrl.safetensors"), state


def poses_of(frames: int) -> list[CameraPose]:
    """A path that turns and moves in all directions, with a zoom lens."""
    found = []
    for i in range(frames):
        a = 0.1 * i
        turn = [[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]]
        shift = (0.1 * i, -0.05 * i, 0.02 * i * i)
        matrix = [value for row, s in zip(turn, shift, strict=True) for value in (*row, s)]
        found.append(CameraPose(tuple(matrix), 0.5 + 0.01 * i, 0.9, 0.5, 0.45))
    return found


def literal_rays(poses: list[CameraPose], width: int, height: int, clip_ratio: float | None = None) -> Tensor:
    """`f 6 H W` in double precision, pixel by pixel, from the facts: source 1280x720, relative to the first pose."""
    source, clip = 1280 / 720, clip_ratio or width / height
    matrices = []
    for pose in poses:
        m = torch.eye(4, dtype=torch.float64)
        m[:3] = torch.tensor(pose.matrix, dtype=torch.float64).reshape(3, 4)
        matrices.append(m)
    out = torch.zeros(len(poses), 6, height, width, dtype=torch.float64)
    for number, pose in enumerate(poses):
        fx, fy = pose.fx * width, pose.fy * height
        if source > clip:
            fx *= source / clip
        else:
            fy *= clip / source
        c2w = matrices[0] @ torch.linalg.inv(matrices[number])
        for y in range(height):
            for x in range(width):
                d = torch.tensor(
                    [(x + 0.5 - pose.cx * width) / fx, (y + 0.5 - pose.cy * height) / fy, 1], dtype=torch.float64
                )
                d = c2w[:3, :3] @ (d / d.square().sum().sqrt())
                o = c2w[:3, 3]
                cross = (o[1] * d[2] - o[2] * d[1], o[2] * d[0] - o[0] * d[2], o[0] * d[1] - o[1] * d[0])
                out[number, :, y, x] = torch.stack([*cross, *d])
    return out


def literal_features(state: dict[str, Tensor], rays: Tensor, views: list[range] | None = None) -> list[Tensor]:
    """The encoder's four features of one clip, `f c h w`; in views, attention is averaged over those of a frame."""
    frames, _, height, width = rays.shape
    x = rays.reshape(frames, 6, height // 8, 8, width // 8, 8).permute(0, 1, 3, 5, 2, 4)
    x = x.reshape(frames, 384, height // 8, width // 8)

    def conv(name: str, x: Tensor, padding: int = 0) -> Tensor:
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], padding=padding)

    x = conv("encoder_conv_in", x, 1)
    features = []
    for level in range(4):
        for j in (0, 1):
            name = f"encoder_down_conv_blocks.{level}.{j}"
            if level and j == 0:
                x = (x[..., ::2, ::2] + x[..., 1::2, ::2] + x[..., ::2, 1::2] + x[..., 1::2, 1::2]) / 4
            if f"{name}.in_conv.weight" in state:
                x = conv(f"{name}.in_conv", x)
            x = x + conv(f"{name}.block2", torch.clamp(conv(f"{name}.block1", x, 1), min=0))
            x = _over_frames(state, f"encoder_down_attention_blocks.{level}.{j}", x, views)
        features.append(x)
    return features


def _over_frames(state: dict[str, Tensor], name: str, x: Tensor, views: list[range] | None) -> Tensor:
    own = {key.removeprefix(f"{name}."): value for key, value in state.items() if key.startswith(f"{name}.")}
    tokens = x.flatten(2).transpose(1, 2)  # f d c
    views = views or [range(len(x))]
    total, counts = torch.zeros_like(tokens), [0] * len(x)
    for view in views:
        seen = tokens[list(view)]
        attended = seen + literal_attention(literal_layer_norm(seen, own, "norms.0"), own, "attention_blocks.0.", None)
        for place, frame in enumerate(view):
            total[frame] += attended[place]
            counts[frame] += 1
    tokens = torch.stack([total[frame] / counts[frame] for frame in range(len(x))])
    tokens = tokens + _feed_forward(own, literal_layer_norm(tokens, own, "ff_norm"))
    return tokens.transpose(1, 2).reshape(x.shape)


def _feed_forward(own: dict[str, Tensor], x: Tensor) -> Tensor:
    value, gate = (x @ own["ff.net.0.proj.weight"].T + own["ff.net.0.proj.bias"]).chunk(2, -1)
    hidden = value * (0.5 * gate * (1 + torch.erf(gate / math.sqrt(2))))
    return hidden @ own["ff.net.2.weight"].T + own["ff.net.2.bias"]


def literal_camera_site(
    weights: dict[str, Tensor],
    merge: tuple[Tensor, Tensor],
    x: Tensor,
    feature: Tensor,
    scales: list[float],
    views: list[tuple[tuple[int, ...], list[float], Tensor]] | None = None,
) -> Tensor:
    """A temporal transformer on rows (clip-major, frames inside) whose first attention has the camera's features.

    `feature` is `f c h w`. Views: frames, their weights, and the feature of the view.
    """
    frames, channels = feature.shape[:2]
    tokens = literal_group_norm(x, weights["norm.weight"], weights["norm.bias"]).flatten(2).transpose(1, 2)
    tokens = tokens @ weights["proj_in.weight"].T + weights["proj_in.bias"]
    block = {key.removeprefix("transformer_blocks.0."): value for key, value in weights.items()}
    for clip in range(len(x) // frames):
        own = slice(clip * frames, (clip + 1) * frames)
        total, counts = torch.zeros_like(tokens[own]), [0.0] * frames
        for window, shares, guided in views or [(tuple(range(frames)), [1.0] * frames, feature)]:
            seen = torch.stack([tokens[own][frame] for frame in window])
            h = literal_layer_norm(seen, block, "norms.0")
            h = h + literal_positions(len(window), channels).to(h)[0][:, None]
            merged = (h + guided.flatten(2).transpose(1, 2)) @ merge[0].T + merge[1]
            for place, frame in enumerate(window):
                h[place] += scales[frame] * merged[place]
            seen = seen + _attended(h, block, "attention_blocks.0.")
            h = literal_layer_norm(seen, block, "norms.1")
            seen = seen + literal_attention(h, block, "attention_blocks.1.", None)
            for place, frame in enumerate(window):
                total[frame] += shares[place] * seen[place]
                counts[frame] += shares[place]
        tokens[own] = torch.stack([total[frame] / counts[frame] for frame in range(frames)])
    tokens = tokens + _feed_forward(block, literal_layer_norm(tokens, block, "ff_norm"))
    tokens = tokens @ weights["proj_out.weight"].T + weights["proj_out.bias"]
    return x + tokens.transpose(1, 2).reshape(x.shape)


def _attended(h: Tensor, block: dict[str, Tensor], prefix: str) -> Tensor:
    """Attention of tokens `f d c` that have their positions already."""
    q, k, v = (h @ block[f"{prefix}to_{part}.weight"].T for part in "qkv")
    size = h.shape[-1] // HEADS
    out = torch.empty_like(h)
    for head in range(HEADS):
        part = slice(head * size, (head + 1) * size)
        scores = torch.einsum("fdc,gdc->dfg", q[..., part], k[..., part]) / math.sqrt(size)
        out[..., part] = torch.einsum("dfg,gdc->fdc", scores.softmax(-1), v[..., part])
    return out @ block[f"{prefix}to_out.0.weight"].T + block[f"{prefix}to_out.0.bias"]


class CameraSite(nn.Module):
    """`literal_camera_site` in the place of a `LiteralSite`."""

    def __init__(self, site: LiteralSite, merge: tuple[Tensor, Tensor], feature: Tensor, scales: list[float]) -> None:
        super().__init__()
        self.weights, self.merge, self.feature, self.scales = site.weights, merge, feature, scales

    def forward(self, x: Tensor) -> Tensor:
        return literal_camera_site(self.weights, self.merge, x, self.feature, self.scales)


def literal_unet(
    unet: nn.Module,
    host: str,
    motion: dict[str, Tensor],
    camera: dict[str, Tensor],
    features: list[Tensor],
    scales: list[float],
) -> nn.Module:
    """A copy of a UNet with the literal motion module and the camera's features in it, for one clip of a window."""
    made = edited(unet, host, motion, len(scales))
    for module in list(made.modules()):
        for name, child in list(module.named_children()):
            if not isinstance(child, LiteralSite) or child.site.startswith("mid_block"):
                continue
            path, number = child.site.split(".")[:2]
            level = int(number) if path == "down_blocks" else 3 - int(number)
            merge = camera[MERGE.format(child.site, "weight")], camera[MERGE.format(child.site, "bias")]
            setattr(module, name, CameraSite(child, merge, features[level], scales))
    return made
