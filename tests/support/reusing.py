"""Reuse written out by hand: both hosts' UNets block by block, and what enters their last layers."""

from __future__ import annotations

import torch
from support import hosts
from torch import Tensor, nn

from lib_animatediff import inject
from lib_animatediff.engine.reuse.schedule import FeatureReuse

FRAMES, STREAMS = 6, 2
HALF = FeatureReuse(2)


def count_computed(unet: nn.Module, seen: list[str]) -> list:
    """Note the name of each convolution that runs. Handles that remove the hooks."""
    return [
        layer.register_forward_hook(lambda _layer, _inputs, _output, name=name: seen.append(name))
        for name, layer in unet.named_modules()
        if isinstance(layer, nn.Conv2d)
    ]


def embedding(unet: nn.Module, given: dict[str, Tensor]) -> Tensor:
    """Of the timesteps."""
    if hasattr(unet, "input_blocks"):
        from ldm.modules.diffusionmodules.util import timestep_embedding

        return unet.time_embed(timestep_embedding(given["t"], unet.model_channels, repeat_only=False))
    return unet.time_embedding(unet.time_proj(given["t"]))


def skips_of(unet: nn.Module, given: dict[str, Tensor], count: int) -> list[Tensor]:
    """The outputs of the first so many layers on the way down, which skip connections lead on."""
    emb, context, h, made = embedding(unet, given), given["context"], given["x"], []
    if hasattr(unet, "input_blocks"):
        for block in unet.input_blocks[:count]:
            made.append(h := block(h, emb, context))
        return made
    made.append(h := unet.conv_in(h))
    block = unet.down_blocks[0]
    for resnet, attention in zip(block.resnets, block.attentions, strict=True):
        h = attention(resnet(h, emb), encoder_hidden_states=context, return_dict=False)[0]
        made.append(h)
    return made[:count]


def finished(unet: nn.Module, given: dict[str, Tensor], below: Tensor, skips: list[Tensor]) -> Tensor:
    """The output from what enters the last layers beside the skips."""
    emb, context, h = embedding(unet, given), given["context"], below
    count = len(skips)
    if hasattr(unet, "input_blocks"):
        for block, skip in zip(unet.output_blocks[-count:], reversed(skips), strict=True):
            h = block(torch.cat([h, skip], 1), emb, context)
        return unet.out(h)
    last = unet.up_blocks[-1]
    layers = zip(last.resnets[-count:], last.attentions[-count:], strict=True)
    for (resnet, attention), skip in zip(layers, reversed(skips), strict=True):
        h = attention(resnet(torch.cat([h, skip], 1), emb), encoder_hidden_states=context, return_dict=False)[0]
    return unet.conv_out(unet.conv_act(unet.conv_norm_out(h)))


def entering(unet: nn.Module, given: dict[str, Tensor], count: int) -> Tensor:
    """What enters the last so many layers from below, in a whole call."""
    if hasattr(unet, "input_blocks"):
        entry, channels = unet.output_blocks[-count], unet.output_blocks[-count - 1][0].out_channels
    else:
        entry = unet.up_blocks[-1].resnets[-count]
        before = [*unet.up_blocks[-2].resnets, *unet.up_blocks[-1].resnets][-count - 1]
        channels = before.out_channels
    taken = []
    with entry.register_forward_pre_hook(lambda _layer, inputs: taken.append(inputs[0][:, :channels].clone())):
        hosts.call(unet, given)
    return taken[0]


def step_inputs(step, rows=FRAMES * STREAMS, **more):
    """Of one sampling step: other latents and another timestep at each; a context for each row."""
    given = hosts.inputs(rows, seed=step, **more)
    return {**given, "t": torch.full((rows,), 900 - 40 * step), "context": hosts.inputs(rows)["context"]}


def some(given, rows):
    return {name: value[rows] for name, value in given.items()}


def outputs(unet, motion, inputs, reuse=HALF, **options):
    with inject(unet, motion, frames=FRAMES, reuse=reuse, **options):
        return [hosts.call(unet, each) for each in inputs]


def computed(unet, given):
    """Names of the convolutions that a call computes."""
    seen = []
    handles = count_computed(unet, seen)
    try:
        hosts.call(unet, given)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def is_full(unet, given):
    """Whether a call computes the middle block."""
    return any(name.startswith("mid") for name in computed(unet, given))
