"""Control networks whose residuals are plain to see, and both hosts' UNets with residuals added by their own code."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from support.reusing import embedding
from torch import Tensor, nn

from lib_animatediff.engine.components.control import ControlInputs, Residuals

# Of the skip connections of `hosts.HOSTS` with latents of 8x8, the outermost first: channels and side.
SKIPS = [(32, 8)] * 3 + [(32, 4), (64, 4), (64, 4), (64, 2), (128, 2), (128, 2)] + [(128, 1)] * 3
MIDDLE = (128, 1)
ENDS = (2, 5, 8, 11)  # the last feature of each resolution


@dataclass
class Loud:
    """Residuals that depend on everything that a network receives, row by row.

    `kind` is what it adds to: "skips" and the middle as a ControlNet, or "down" as a T2I adapter.
    """

    kind: str = "skips"
    name: str = "loud"
    seed: int = 0
    rows: list[int] = field(default_factory=list)

    def __call__(self, inputs: ControlInputs) -> Residuals:
        self.rows.append(len(inputs.latents))
        parts = [
            inputs.for_rows(inputs.hints).mean((1, 2, 3)),
            inputs.latents.mean((1, 2, 3)),
            inputs.timesteps / 1000,
            inputs.context.mean((1, 2)),
        ]
        return self.of(sum(parts))

    def of(self, loudness: Tensor) -> Residuals:
        generator = torch.Generator().manual_seed(self.seed)

        def made(channels: int, side: int) -> Tensor:
            return torch.randn(1, channels, side, side, generator=generator) * loudness.view(-1, 1, 1, 1)

        if self.kind == "down":
            return Residuals(down={place: made(*SKIPS[place]) for place in ENDS})
        return Residuals([made(*each) for each in SKIPS], made(*MIDDLE))


def literal_residuals(network: Loud, given: dict[str, Tensor], hints: Tensor) -> Residuals:
    """What `Loud` returns for rows whose hints are given for each of them, 0 to 1."""
    inputs = ControlInputs(hints, given["x"], given["t"], given["context"])
    assert len(hints) == len(given["x"])
    return network(inputs)


def with_residuals(unet: nn.Module, given: dict[str, Tensor], residuals: Residuals, weight: float = 1.0) -> Tensor:
    """The UNet's output with residuals: diffusers' own arguments, or LDM's blocks one by one."""
    skips = [weight * each for each in residuals.skips]
    middle = None if residuals.middle is None else weight * residuals.middle
    down = {place: weight * each for place, each in residuals.down.items()}
    if hasattr(unet, "input_blocks"):
        return _with_ldm(unet, given, skips, middle, down)
    options = {"down_intrablock_additional_residuals": [down[place] for place in ENDS]} if down else {}
    if skips:
        options |= {"down_block_additional_residuals": skips, "mid_block_additional_residual": middle}
    return unet(given["x"], given["t"], encoder_hidden_states=given["context"], **options).sample


def _with_ldm(unet, given, skips, middle, down):
    emb, context, h, kept = embedding(unet, given), given["context"], given["x"], []
    for number, block in enumerate(unet.input_blocks):
        h = block(h, emb, context)
        if number in down:
            h = h + down[number]
        kept.append(h)
    h = unet.middle_block(h, emb, context)
    if middle is not None:
        h = h + middle
    for block in unet.output_blocks:
        skip = kept.pop()
        if skips:
            skip = skip + skips[len(kept)]
        h = block(torch.cat([h, skip], 1), emb, context)
    return unet.out(h)
