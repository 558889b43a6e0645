"""CameraCtrl (arXiv 2404.02101): an encoder of camera rays, and what merges its features into a motion module.

The features do not depend on the noisy latents, so they are the same at all steps. Parameters of the encoder have the
names of the official files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from motion_module.kinds import SITES_DOWN, SITES_UP
from motion_module.options import View
from motion_module.residual_block import ResidualBlock
from motion_module.temporal_transformer import (
    CUDA_GRID_LIMIT,
    HEADS,
    TemporalAttention,
    TemporalBlock,
    positional_table,
)

from .rays import CHANNELS

SHRINK = 8  # pixels beside one another in a position of the latents
LEVELS = 4  # resolutions of Stable Diffusion 1.5
LAYERS = 2  # at each resolution of the encoder
MULTIPLE = SHRINK * 2 ** (LEVELS - 1)  # of the sides in pixels, which the encoder halves without rounding


@dataclass(frozen=True)
class CameraLayout:
    """What differs between files.

    Attributes:
        widths: channels at each resolution.
        trained_length: frames that the encoder's positional tables were trained for.
    """

    widths: tuple[int, ...]
    trained_length: int


class CameraCtrl(nn.Module):
    """A CameraCtrl model.

    Attributes:
        layout: its widths and trained length.
        name: used in messages; usually the file name.
    """

    def __init__(self, layout: CameraLayout, name: str = "CameraCtrl") -> None:
        super().__init__()
        self.layout = layout
        self.name = name
        widths, length = layout.widths, layout.trained_length
        self.encoder_conv_in = nn.Conv2d(CHANNELS * SHRINK**2, widths[0], 3, padding=1)
        before = [widths[max(level - 1, 0)] for level in range(LEVELS)]
        self.encoder_down_conv_blocks = nn.ModuleList(
            nn.ModuleList([ResidualBlock(c, width) for c in (former, *[width] * (LAYERS - 1))])
            for former, width in zip(before, widths, strict=True)
        )
        self.encoder_down_attention_blocks = nn.ModuleList(
            nn.ModuleList([TemporalBlock(width, length, attentions=1) for _ in range(LAYERS)]) for width in widths
        )
        self.merges = nn.ModuleDict({_key(site): nn.Linear(c, c) for site, c in merged_sites(widths).items()})

    @property
    def trained_length(self) -> int:
        """Number of frames that its positional tables were trained for."""
        return self.layout.trained_length

    @property
    def widths(self) -> Mapping[str, int]:
        """Channels of each site of a motion module that it merges into, by the official name."""
        return merged_sites(self.layout.widths)

    @property
    def official_names(self) -> Mapping[str, str]:
        """The official name of each weight, by its key in the state dict."""
        own = {_key(site): site for site in self.widths}
        return {key: official_name(key, own) for key in self.state_dict()}

    def merge(self, site: str) -> nn.Module:
        """The layer that merges features into a site: ``h + merge(h + feature)``."""
        return self.merges[_key(site)]

    def encode(self, rays: Tensor, views: Sequence[View] = (), clips: int = 1) -> list[Tensor]:
        """The features of camera paths at each resolution, the finest first, ``(b f) c h w`` each.

        Args:
            rays: ``(b f) 6 H W``, in the dtype of the weights; height and width are multiples of `MULTIPLE`.
            views: frames that attend to one another, for paths of more frames than its tables; see `View`.
            clips: b, the number of paths.
        """
        x = self.encoder_conv_in(F.pixel_unshuffle(rays, SHRINK))
        features = []
        convolutions: Any = self.encoder_down_conv_blocks
        attentions: Any = self.encoder_down_attention_blocks
        for level in range(LEVELS):
            if level:
                x = F.avg_pool2d(x, 2)
            for block, over_frames in zip(convolutions[level], attentions[level], strict=True):
                x = _over_frames(over_frames, block(x), views, clips)
            features.append(x)
        return features

    @classmethod
    def _skeleton(cls, layout: CameraLayout, name: str) -> CameraCtrl:
        with torch.device("meta"):  # shapes only; the file supplies the weights
            return cls(layout, name)

    @classmethod
    @lru_cache(maxsize=16)
    def expected_shapes(cls, layout: CameraLayout) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every weight that a file with this layout must hold, the merges by `merge_name`."""
        model = cls._skeleton(layout, "")
        names = model.official_names
        return {names[key]: tuple(tensor.shape) for key, tensor in model.state_dict().items()}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Tensor], layout: CameraLayout, name: str = "CameraCtrl") -> CameraCtrl:
        """Build a frozen model in evaluation mode around the given tensors, by official names, which are not copied.

        Raises:
            RuntimeError: a key is missing, unexpected, or of another shape (torch's strict check).
        """
        model = cls._skeleton(layout, name)
        ours = {merge_name(site, end): f"merges.{_key(site)}.{end}" for site in model.widths for end in _ENDS}
        model.load_state_dict({ours.get(key, key): each for key, each in state.items()}, strict=True, assign=True)
        some = next(iter(state.values()))
        for module in model.modules():
            if isinstance(module, TemporalAttention):
                table = positional_table(layout.trained_length, module.to_q.in_features)
                module.pe = table.to(some.device)  # stays float32, whatever the file's dtype
        return model.requires_grad_(False).eval()


_ENDS = ("weight", "bias")


def merged_sites(widths: Sequence[int]) -> dict[str, int]:
    """The sites of a motion module without the middle block, with their channels."""
    down = {f"down_blocks.{n}.motion_modules.{k}": width for n, width in enumerate(widths) for k in range(SITES_DOWN)}
    up = {f"up_blocks.{n}.motion_modules.{k}": w for n, w in enumerate(reversed(widths)) for k in range(SITES_UP)}
    return down | up


def level_of(site: str) -> int:
    """The resolution of a site, 0 for the finest."""
    path, number, *_ = site.split(".")
    return int(number) if path == "down_blocks" else LEVELS - 1 - int(number)


def merge_name(site: str, end: str) -> str:
    """The official name of a merge's ``weight`` or ``bias``."""
    return f"{site}.temporal_transformer.transformer_blocks.0.attention_blocks.0.processor.qkv_merge.{end}"


def official_name(key: str, sites: Mapping[str, str]) -> str:
    """The official name of a key of the state dict."""
    if not key.startswith("merges."):
        return key
    _, site, end = key.split(".")
    return merge_name(sites[site], end)


def _key(site: str) -> str:
    return site.replace(".", "_")  # torch's dictionaries of modules have no dots in their keys


def _over_frames(block: nn.Module, x: Tensor, views: Sequence[View], clips: int) -> Tensor:
    """The temporal block at each position, as many at once as attention kernels take."""
    tokens = rearrange(x, "(b f) c h w -> b f (h w) c", b=clips)
    parts = torch.split(tokens, CUDA_GRID_LIMIT // HEADS, dim=2)
    made = torch.cat([block(part.contiguous(), 1.0, views) for part in parts], dim=2)
    return rearrange(made, "b f (h w) c -> (b f) c h w", h=x.shape[2])
