"""Put domain adapters on a UNet's spatial attention and take them off again.

``W x + strength * up (down x)`` is what merged weights would give. It is added by forward hooks, so that weights stay
as they are: LoRAs of the host, which are merged into the same weights, need no order of coming and going.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lib_animatediff.engine.sites import find_sites
from motion_module import DomainAdapter, IncompatibleModelError
from motion_module.lora.low_rank import LowRank


@dataclass(frozen=True)
class AdapterMatch:
    """How much of a domain adapter has a place in a UNet; as text, one line about it.

    Attributes:
        adapter: the file's name.
        matched: how many layers of the UNet the adapter changes.
        total: how many layers it was made for.
        unused: how many layers besides attention it holds a LoRA for, which stays unused.
    """

    adapter: str
    matched: int
    total: int
    unused: int = 0

    def __str__(self) -> str:
        more = f"; {self.unused} more, which are no spatial attention, are left out" if self.unused else ""
        return f"{self.adapter}: {self.matched} of its {self.total} layers match the checkpoint{more}."


@contextmanager
def apply_domain_adapters(
    unet: nn.Module, adapters: Sequence[tuple[DomainAdapter, float]]
) -> Iterator[list[AdapterMatch]]:
    """Run the UNet with domain adapters inside the block; its weights stay untouched.

    The adapters follow the device and dtype of what comes out of each layer. One of strength 0 leaves no trace, the
    same numbers bit for bit. A compiled UNet would ignore them without a word; `inject` refuses it.

    Args:
        unet: as for `inject`.
        adapters: each with its strength: 1 as trained.

    Raises:
        IncompatibleModelError: nothing of an adapter matches, or a layer is of another size; or the UNet is unknown.
    """
    layers = _attention_layers(unet) if adapters else {}
    matches = [_match(adapter, layers) for adapter, _ in adapters]
    with ExitStack() as undo:
        for name, layer in layers.items():
            changes = [(a.deltas[name], strength) for a, strength in adapters if strength and name in a.deltas]
            if changes:
                undo.callback(layer.register_forward_hook(_LowRankHook(changes)).remove)
        yield matches


def _attention_layers(unet: nn.Module) -> dict[str, nn.Module]:
    """The layers that adapters are made for, by official names; LDM names all but the transformers as diffusers does.

    Raises:
        IncompatibleModelError: the UNet is unknown.
    """
    sites = find_sites(unet)
    if not sites:
        raise IncompatibleModelError(f"{type(unet).__name__} is not a Stable Diffusion UNet that we know.")
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
            f"None of the {len(adapter.deltas)} layers of {adapter.name} is in this checkpoint. Use an adapter made "
            "for its base model."
        )
    for name in matching:
        layer: Any = layers[name]
        size = (layer.out_features, layer.in_features)
        if adapter.deltas[name].shape != size:
            raise IncompatibleModelError(
                f"{adapter.name} is made for a checkpoint of other widths: {name} is {size} in this one, "
                f"{adapter.deltas[name].shape} in the adapter. Use one made for its base model."
            )
    return AdapterMatch(adapter.name, len(matching), len(adapter.deltas), adapter.unused)


class _LowRankHook:
    """Forward hook: adds low-rank changes to the output of a linear layer, all of them as one."""

    def __init__(self, changes: Sequence[tuple[LowRank, float]]) -> None:
        self._down = torch.cat([change.down.float() for change, _ in changes])
        self._up = torch.cat([strength * change.scale * change.up.float() for change, strength in changes], dim=1)
        self._fitting: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor]] = {}

    def __call__(self, _layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        down, up = self._matrices(output)
        return output + F.linear(F.linear(inputs[0].to(output.dtype), down), up)

    def _matrices(self, like: Tensor) -> tuple[Tensor, Tensor]:
        key = (like.device, like.dtype)
        if key not in self._fitting:
            self._fitting[key] = (self._down.to(*key), self._up.to(*key))
        return self._fitting[key]
