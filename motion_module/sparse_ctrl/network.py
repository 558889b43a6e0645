"""The SparseCtrl encoder (arXiv 2311.16933): a UNet encoder with temporal transformers that reads given frames.

It never sees the noisy latents: its input is the bias of its first convolution plus the embedded conditions, so its
output depends on the timestep, the text and the conditions alone. Parameters have the names of the official files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from motion_module.network import SiteModule
from motion_module.temporal_transformer import TemporalAttention, TemporalTransformer, positional_table

from .layers import TIME_FACTOR, Downsampler, ResnetBlock, ScribbleEmbedding, SpatialTransformer, TimeEmbedding

RGB, SCRIBBLE = "rgb", "scribble"
COLOURS = 3
LATENT_CHANNELS = 4
CHANNELS = {RGB: LATENT_CHANNELS, SCRIBBLE: COLOURS}  # of a condition: an image's latent, or a drawing in pixels
PIXELS_PER_POSITION = {RGB: 1, SCRIBBLE: 8}  # pixels of a condition beside one another in a position of the latents
LEVELS = 4  # resolutions of Stable Diffusion 1.5
LAYERS = 2  # at each resolution
ATTENTIONS = 1  # temporal self-attentions of a block; motion modules have two

Temporal = Callable[[str, TemporalTransformer, Tensor], Tensor]
"""Runs a temporal transformer, given its name, on rows ``(k b f) c h w``."""


@dataclass(frozen=True)
class EncoderLayout:
    """What differs between encoders.

    Attributes:
        kind: `RGB` for images or `SCRIBBLE` for drawings.
        widths: channels at each resolution.
        context: numbers of each text condition.
        trained_length: frames that its positional tables were trained for.
    """

    kind: str
    widths: tuple[int, ...]
    context: int
    trained_length: int


class DownBlock(nn.Module):
    """The layers of one resolution."""

    def __init__(self, layout: EncoderLayout, level: int) -> None:
        super().__init__()
        widths = layout.widths
        before, width, embedding = widths[max(level - 1, 0)], widths[level], TIME_FACTOR * widths[0]
        is_last = level == LEVELS - 1
        self.resnets = nn.ModuleList([ResnetBlock(c, width, embedding) for c in (before, *[width] * (LAYERS - 1))])
        if not is_last:
            self.attentions = nn.ModuleList([SpatialTransformer(width, layout.context) for _ in range(LAYERS)])
            self.downsamplers = nn.ModuleList([Downsampler(width)])
        self.motion_modules = nn.ModuleList(
            [SiteModule(width, layout.trained_length, attentions=ATTENTIONS) for _ in range(LAYERS)]
        )


class MidBlock(nn.Module):
    """The layers of the lowest resolution, without a temporal transformer."""

    def __init__(self, layout: EncoderLayout) -> None:
        super().__init__()
        width, embedding = layout.widths[-1], TIME_FACTOR * layout.widths[0]
        self.resnets = nn.ModuleList([ResnetBlock(width, width, embedding) for _ in range(2)])
        self.attentions = nn.ModuleList([SpatialTransformer(width, layout.context)])

    def forward(self, x: Tensor, embedding: Tensor, context: Tensor) -> Tensor:
        """``n c h w`` in and out."""
        x = self.attentions[0](self.resnets[0](x, embedding), context)
        return self.resnets[1](x, embedding)  # type: ignore[no-any-return]


class SparseCtrl(nn.Module):
    """A SparseCtrl encoder.

    Attributes:
        layout: its kind, widths and trained length.
        name: used in messages; usually the file name.
    """

    def __init__(self, layout: EncoderLayout, name: str = "SparseCtrl encoder") -> None:
        super().__init__()
        self.layout = layout
        self.name = name
        first = layout.widths[0]
        channels = CHANNELS[layout.kind] + 1  # and the mask
        self.conv_in = nn.Conv2d(LATENT_CHANNELS, first, 3, padding=1)  # of which the bias alone is used
        self.time_embedding = TimeEmbedding(first)
        self.controlnet_cond_embedding: nn.Module = (
            ScribbleEmbedding(channels, first) if layout.kind == SCRIBBLE else nn.Conv2d(channels, first, 3, padding=1)
        )
        self.down_blocks = nn.ModuleList([DownBlock(layout, level) for level in range(LEVELS)])
        self.mid_block = MidBlock(layout)
        skips = _skip_widths(layout.widths)
        self.controlnet_down_blocks = nn.ModuleList([nn.Conv2d(width, width, 1) for width in skips])
        self.controlnet_mid_block = nn.Conv2d(skips[-1], skips[-1], 1)

    @property
    def kind(self) -> str:
        """``"rgb"`` for images or ``"scribble"`` for drawings."""
        return self.layout.kind

    @property
    def trained_length(self) -> int:
        """Number of frames that its positional tables were trained for."""
        return self.layout.trained_length

    def embed(self, conditions: Tensor) -> Tensor:
        """The conditions of given frames as features, which are the same in every call.

        Args:
            conditions: ``n c H W``. Of kind ``"rgb"`` latents of images, scaled as the UNet's; of kind ``"scribble"``
                drawings in pixels, white lines on black, 0 to 1.

        Returns:
            ``(n + 1) c h w``: the last one is that of a frame without a condition.
        """
        blank = torch.zeros_like(conditions[:1, :1])
        mask = torch.cat([torch.ones_like(conditions[:, :1]), blank])
        given = torch.cat([conditions, blank.expand(-1, conditions.shape[1], -1, -1)])
        return self.controlnet_cond_embedding(torch.cat([given, mask], dim=1))  # type: ignore[no-any-return]

    def forward(
        self, features: Tensor, timesteps: Tensor, context: Tensor, temporal: Temporal
    ) -> tuple[list[Tensor], Tensor]:
        """What is added to the skip connections of a UNet and to the output of its middle block, at a strength of 1.

        Args:
            features: of each row, as `embed` made them, ``(k b f) c h w``.
            timesteps: ``(k b f)``.
            context: text conditions, ``(k b f) m e``.
            temporal: runs the temporal transformers, so that the caller decides how frames are put together.
        """
        embedding = self.time_embedding(timesteps)
        assert self.conv_in.bias is not None
        x = features + self.conv_in.bias.view(1, -1, 1, 1)
        outputs = iter(self.controlnet_down_blocks)
        skips = [next(outputs)(x)]
        blocks: list[Any] = list(self.down_blocks)
        for level, block in enumerate(blocks):
            for number, resnet in enumerate(block.resnets):
                x = resnet(x, embedding)
                if level < LEVELS - 1:
                    x = block.attentions[number](x, context)
                name = f"down_blocks.{level}.motion_modules.{number}"
                x = temporal(name, block.motion_modules[number].temporal_transformer, x)
                skips.append(next(outputs)(x))
            if level < LEVELS - 1:
                x = block.downsamplers[0](x)
                skips.append(next(outputs)(x))
        return skips, self.controlnet_mid_block(self.mid_block(x, embedding, context))

    @classmethod
    def _skeleton(cls, layout: EncoderLayout, name: str) -> SparseCtrl:
        with torch.device("meta"):  # shapes only; the file supplies the weights
            return cls(layout, name)

    @classmethod
    @lru_cache(maxsize=16)
    def expected_shapes(cls, layout: EncoderLayout) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every weight that a file with this layout must hold."""
        return {key: tuple(tensor.shape) for key, tensor in cls._skeleton(layout, "").state_dict().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], layout: EncoderLayout, name: str = "SparseCtrl encoder"
    ) -> SparseCtrl:
        """Build a frozen encoder in evaluation mode around the given tensors, which are not copied.

        Raises:
            RuntimeError: a key is missing, unexpected, or of another shape (torch's strict check).
        """
        encoder = cls._skeleton(layout, name)
        encoder.load_state_dict(dict(state), strict=True, assign=True)
        some = next(iter(state.values()))
        for module in encoder.modules():
            if isinstance(module, TemporalAttention):
                table = positional_table(layout.trained_length, module.to_q.in_features)
                module.pe = table.to(some.device)  # stays float32, whatever the file's dtype
        return encoder.requires_grad_(False).eval()


def _skip_widths(widths: tuple[int, ...]) -> list[int]:
    """Channels of the skip connections, the outermost first: the first convolution's, each layer's, each halving's."""
    levels = ([width] * (LAYERS + (level < LEVELS - 1)) for level, width in enumerate(widths))
    return [widths[0], *chain.from_iterable(levels)]
