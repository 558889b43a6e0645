"""The motion module: one temporal transformer per UNet site, with the parameter names of the official files.

A site is a place in the UNet that a temporal transformer follows: every ResNet block (with its spatial transformer).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor, nn

from .kinds import Kind
from .schedules import BetaSchedule
from .temporal_transformer import ATTENTIONS, TemporalAttention, TemporalTransformer, positional_table


class SiteModule(nn.Module):
    """The transformer of one site, under its official name."""

    def __init__(self, channels: int, length: int, *, shared_norm: bool = False, attentions: int = ATTENTIONS) -> None:
        super().__init__()
        self.temporal_transformer = TemporalTransformer(
            channels, length, shared_norm=shared_norm, attentions=attentions
        )


class MotionBlock(nn.Module):
    """The sites of one UNet block."""

    def __init__(self, widths: tuple[int, ...], length: int, *, shared_norm: bool = False) -> None:
        super().__init__()
        self.motion_modules = nn.ModuleList(
            [SiteModule(channels, length, shared_norm=shared_norm) for channels in widths]
        )


@dataclass(frozen=True)
class Layout:
    """Channels of each site per down block, in the middle block (None without one) and per up block; trained length."""

    down: tuple[tuple[int, ...], ...]
    mid: int | None
    up: tuple[tuple[int, ...], ...]
    trained_length: int


class MotionModule(nn.Module):
    """All temporal transformers of one file, with what is known about their training.

    Attributes:
        name: used in messages; usually the file name.
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
        """Official training that it follows: a name in the table of kinds, such as ``"v3"``."""
        return self._kind.name

    @property
    def base(self) -> str:
        """Image model that it animates: ``"sd15"`` or ``"sdxl"``."""
        return self._kind.base

    @property
    def schedule(self) -> BetaSchedule:
        """Noise levels of its training."""
        return self._kind.schedule

    @property
    def shared_resnet_norms(self) -> bool:
        """Whether the group norms of the UNet take their statistics over all frames of a clip, see `Kind`."""
        return self._kind.shared_resnet_norms

    @property
    def trained_length(self) -> int:
        """Number of frames that its positional table was trained for."""
        return self.layout.trained_length

    @property
    def best_length(self) -> int:
        """Number of frames at a time that gives the best clips; at most `trained_length`."""
        return min(self._kind.best_length or self.trained_length, self.trained_length)

    def sites(self) -> Iterator[tuple[str, TemporalTransformer]]:
        """Yield official site names, such as ``down_blocks.0.motion_modules.1``, and their transformers."""
        for name, module in self.named_modules():
            if isinstance(module, SiteModule):
                yield name, module.temporal_transformer

    @classmethod
    def fresh(cls, layout: Layout, kind: Kind, name: str = "motion module") -> MotionModule:
        """Create an untrained module, float32 on the CPU, that leaves a UNet's output unchanged.

        Initialised as in the official training: torch's defaults, but zeros for each transformer's output projection.
        Uses torch's global random generator.
        """
        motion = cls(layout, kind, name)
        for _, transformer in motion.sites():
            nn.init.zeros_(transformer.proj_out.weight)
            nn.init.zeros_(transformer.proj_out.bias)
        return motion

    @classmethod
    def _skeleton(cls, layout: Layout, kind: Kind, name: str) -> MotionModule:
        with torch.device("meta"):  # shapes only; the file supplies the weights
            return cls(layout, kind, name)

    @classmethod
    @lru_cache(maxsize=16)
    def expected_shapes(cls, layout: Layout, kind: Kind) -> Mapping[str, tuple[int, ...]]:
        """Name and shape of every weight that a file with this layout must hold."""
        return {key: tuple(tensor.shape) for key, tensor in cls._skeleton(layout, kind, "").state_dict().items()}

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Tensor], layout: Layout, kind: Kind, name: str = "motion module"
    ) -> MotionModule:
        """Build a frozen module in evaluation mode around the given tensors, which are not copied.

        Raises:
            RuntimeError: a key is missing, unexpected, or of another shape (torch's strict check).
        """
        motion = cls._skeleton(layout, kind, name)
        motion.load_state_dict(dict(state), strict=True, assign=True)
        some = next(iter(state.values()))
        for module in motion.modules():
            if isinstance(module, TemporalAttention):
                table = positional_table(layout.trained_length, module.to_q.in_features)
                module.pe = table.to(some.device)  # stays float32, whatever the file's dtype
        return motion.requires_grad_(False).eval()
