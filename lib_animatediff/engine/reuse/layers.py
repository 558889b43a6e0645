"""The layers that a step computes or leaves out, by skip connection."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lib_animatediff.engine.skip_connections import skip_connections
from motion_module import IncompatibleModelError

from .schedule import FeatureReuse


@dataclass(frozen=True)
class Branch:
    """What is left out at a step that reuses features.

    Attributes:
        skipped: layers that do not run.
        entry: the first layer on the way up that runs.
        below: the layer whose output enters ``entry`` in front; its last features are kept.
    """

    skipped: tuple[nn.Module, ...]
    entry: nn.Module
    below: nn.Module


def branch_of(unet: nn.Module, reuse: FeatureReuse) -> Branch:
    """The layers for a branch.

    Raises:
        IncompatibleModelError: the UNet is of an unknown layout, or too small for the branch.
    """
    connections, middle = skip_connections(unet)
    computed, skipped = connections[: reuse.branch + 1], connections[reuse.branch + 1 :]
    if not skipped:
        raise IncompatibleModelError(
            f"This UNet has {len(connections)} skip connections, which leave nothing to reuse at branch "
            f"{reuse.branch}. Lower reuse_branch, or set reuse to 1.",
            code="AD-G42",
        )
    inner = [layer for each in skipped for layer in (*each.down, *each.up)]
    return Branch(skipped=(*inner, *middle), entry=computed[-1].up[0], below=skipped[0].up[-1])
