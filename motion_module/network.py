"""The motion module: a temporal transformer at each site of a UNet, under the names of the official files."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from .kinds import Kind
from .schedules import BetaSchedule
from .temporal_transformer import TemporalAttention, TemporalTransformer, positional_table


class SiteModule(nn.Module):
    """A site's transformer under its official name."""

    def __init__(self, channels: int, length: int, *, shared_norm: bool = False) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(channels, length, shared_norm=shared_norm)


class MotionBlock(nn.Module):
    """The sites of one UNet block."""

    def __init__(self, widths: tuple[int, ...], length: int, *, shared_norm: bool = False) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleList(
            [SiteModule(channels, length, shared_norm=shared_norm) for channels in widths]
        )


@dataclass(frozen=True)
class Layout:
    """Channels of each site: per down block, in the middle (None without), per up block; and the trained length."""

    down: tuple[tuple[int, ...], ...]
    mid: int | None
    up: tuple[tuple[int, ...], ...]
    trained_length: int


class MotionModule(nn.Module):
    """All temporal transformers of one file, and what is known about it.

    Attributes:
        name: what messages call it, usually the file's name.
    """

    def __init__(self, layout: Layout, kind: Kind, name: str = "motion module") -> None:
        super().__init__()
        self.layout = layout
        self._kind = kind
        self.name = name

        def block(widths: tuple[int, ...]) -> MotionBlock:
            return MotionBlock(widths, layout.trained_length, shared_norm=kind.shared_own_norm)

        self.down_blocks = nn.ModuleList([block(widths) for widths in layout.down])
        self.mid_block = block((layout.mid,)) if layout.mid is not None else None
        self.up_blocks = nn.ModuleList([block(widths) for widths in layout.up])

    @property
    def kind(self) -> str:
        """Which official training it follows: a name in the table of kinds, such as ``"v3"``."""
        return self._kind.name

    @property
    def base(self) -> str:
        """The image model that it animates: ``"sd15"`` or ``"sdxl"``."""
        return self._kind.base

    @property
    def schedule(self) -> BetaSchedule:
        """The noise levels it was trained on."""
        return self._kind.schedule

    @property
    def shared_resnet_norms(self) -> bool:
        """Whether the UNet's ResBlocks and its output normalise over all frames of a clip, see `Kind`."""
        return self._kind.shared_resnet_norms

    @property
    def trained_length(self) -> int:
        """How many frames its positional table was trained for."""
        return self.layout.trained_length

    @property
    def best_length(self) -> int:
        """How many frames at a time it makes its best clips with; never more than `trained_length`."""
        return min(self._kind.best_length or self.trained_length, self.trained_length)

    def sites(self) -> Iterator[tuple[str, TemporalTransformer]]:
        """Official site name, such as ``down_blocks.0.motion_modules.1``, with the transformer that belongs there."""
        for name, module in self.named_modules():
            if isinstance(module, SiteModule):
                yield name, module.temporal_transformer

    @classmethod
    def fresh(cls, layout: Layout, kind: Kind, name: str = "motion module") -> MotionModule:
        """An untrained module, float32 on the CPU, that leaves a UNet's output as it is.

        Initialised as in the official training: torch's defaults, and zero where each transformer's output is added.
        Draws from torch's global generator.
        """
        motion = cls(layout, kind, name)
        for _, transformer in motion.sites():
            nn.init.zeros_(transformer.proj_out.weight)
            nn.init.zeros_(transformer.proj_out.bias)
        return motion

    @classmethod
    def _skeleton(cls, layout: Layout, kind: Kind, name: str) -> MotionModule:
        with torch.device("meta"):  # shapes only: the weights come from a file
            return cls(layout, kind, name)

    @classmethod
    @lru_cache(maxsize=16)
    def expected_shapes(cls, layout: Layout, kind: Kind) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every weight that a file of this layout must hold."""
        return {key: tuple(tensor.shape) for key, tensor in cls._skeleton(layout, kind, "").state_dict().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], layout: Layout, kind: Kind, name: str = "motion module"
    ) -> MotionModule:
        """Build around the given tensors (taken, not copied); frozen, in evaluation mode.

        Raises:
            RuntimeError: a key is missing, left over, or of another shape (torch's own strict check).
        """
        motion = cls._skeleton(layout, kind, name)
        motion.load_state_dict(dict(state), strict=True, assign=True)
        some = next(iter(state.values()))
        for module in motion.modules():
            if isinstance(module, TemporalAttention):
                table = positional_table(layout.trained_length, module.to_q.in_features)
                module.pe = table.to(some.device)  # not rounded to the file's dtype
        return motion.requires_grad_(False).eval()
