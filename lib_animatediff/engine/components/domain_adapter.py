"""Domain adapters on a UNet's spatial attention.

Forward hooks add ``strength * up (down x)`` to the output of a layer, as if the adapter were merged into
its weights. The weights do not change, so that the host can merge and remove its LoRAs in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.call import UNetCall
from lib_animatediff.engine.unet import UNetView, find_sites, unknown_unet
from motion_module import DomainAdapter, IncompatibleModelError
from motion_module.lora.low_rank import LowRank


@dataclass(frozen=True)
class AdapterMatch:
    """How much of a domain adapter fits a UNet. ``str()`` of it is one line.

    Attributes:
        adapter: the file's name.
        matched: number of the UNet's layers that the adapter changes.
        total: number of layers that it has weights for.
        unused: number of layers other than spatial attention that it has weights for; they are not used.
    """

    adapter: str
    matched: int
    total: int
    unused: int = 0

    def __str__(self) -> str:
        more = f"; not used, because it is not spatial attention: {self.unused}" if self.unused else ""
        return f"{self.adapter}: {self.matched} of its {self.total} layers match the checkpoint{more}."


class DomainAdapterComponent:
    """Domain adapters in a UNet. Their weights follow the device and dtype of each layer's output.

    Args:
        adapters: each with its strength; 1 is as trained, 0 changes nothing, bit for bit.

    Attributes:
        matches: after attaching, how much of each adapter fits.
    """

    frames_at_once: int | None = None

    def __init__(self, adapters: Sequence[tuple[DomainAdapter, float]]) -> None:
        self.name = ", ".join(adapter.name for adapter, _ in adapters)
        self.matches: list[AdapterMatch] = []
        self._adapters = adapters

    def attach(self, unet: UNetView, _call: UNetCall, undo: ExitStack) -> None:
        """Add the hooks.

        Raises:
            IncompatibleModelError: no layer of an adapter matches, or a layer is of another size.
        """
        self.matches = _attach(unet.module, self._adapters, undo)


@contextmanager
def apply_domain_adapters(
    unet: nn.Module, adapters: Sequence[tuple[DomainAdapter, float]]
) -> Iterator[list[AdapterMatch]]:
    """Run the UNet with domain adapters inside the block, also without a motion module.

    A compiled UNet ignores hooks that are added later; `inject` refuses one.

    Args:
        unet: as for `inject`.
        adapters: as for `DomainAdapterComponent`.

    Raises:
        IncompatibleModelError: no layer of an adapter matches, a layer is of another size, or the UNet is unknown.
    """
    with ExitStack() as undo:
        yield _attach(unet, adapters, undo)


def _attach(unet: nn.Module, adapters: Sequence[tuple[DomainAdapter, float]], undo: ExitStack) -> list[AdapterMatch]:
    layers = _attention_layers(unet) if adapters else {}
    matches = [_match(adapter, layers) for adapter, _ in adapters]
    for name, layer in layers.items():
        deltas = [(a.deltas[name], strength) for a, strength in adapters if strength and name in a.deltas]
        if deltas:
            undo.callback(layer.register_forward_hook(LowRankHook(deltas)).remove)
    return matches


def _attention_layers(unet: nn.Module) -> dict[str, nn.Module]:
    """The layers that adapters change, by their official names. LDM and diffusers share the names inside transformers.

    Raises:
        IncompatibleModelError: the UNet is unknown.
    """
    sites = find_sites(unet)
    if not sites:
        raise unknown_unet(unet)
    return {
        f"{site.name.replace('.motion_modules.', '.attentions.')}.{name}": layer
        for site in sites
        if site.attends
        for name, layer in site.layer.named_modules()
        if name.endswith((".to_q", ".to_k", ".to_v", ".to_out.0"))
    }


def _match(adapter: DomainAdapter, layers: Mapping[str, nn.Module]) -> AdapterMatch:
    matching = [name for name in adapter.deltas if name in layers]
    if not matching:
        raise IncompatibleModelError(
            f"None of the {len(adapter.deltas)} layers of {adapter.name} exists in this checkpoint. Use an adapter "
            "made for its base model.",
            code="AD-G34",
        )
    for name in matching:
        layer: Any = layers[name]
        size = (layer.out_features, layer.in_features)
        if adapter.deltas[name].shape != size:
            raise IncompatibleModelError(
                f"{adapter.name} is made for a checkpoint of another width: {name} is {size} in this checkpoint and "
                f"{adapter.deltas[name].shape} in the adapter. Use an adapter made for its base model.",
                code="AD-G35",
            )
    return AdapterMatch(adapter.name, len(matching), len(adapter.deltas), adapter.unused)


class LowRankHook:
    """Forward hook: adds low-rank deltas to the output of a linear layer, in one product."""

    def __init__(self, deltas: Sequence[tuple[LowRank, float]]) -> None:
        self._down = torch.cat([delta.down.float() for delta, _ in deltas])
        self._up = torch.cat([strength * delta.scale * delta.up.float() for delta, strength in deltas], dim=1)
        self._fitting: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(self, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        down, up = self._matrices(output)
        return output + F.linear(F.linear(inputs[0].to(output.dtype), down), up)

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (like.device, like.dtype)
        if key not in self._fitting:
            self._fitting[key] = (self._down.to(*key), self._up.to(*key))
        return self._fitting[key]
