"""One call of a UNet with something injected."""

from __future__ import annotations

from typing import Any

from support import hosts
from torch import Tensor, nn

from lib_animatediff import inject


def injected(unet: nn.Module, given: dict[str, Tensor], *components: Any, **options: Any) -> Tensor:
    """The UNet's output for `hosts.inputs`, with components inside it."""
    with inject(unet, *components, **options):
        return hosts.call(unet, given)
