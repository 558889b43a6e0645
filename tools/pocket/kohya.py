"""LoRA as kohya's sd-scripts trains and names it: low-rank changes of the transformers' layers, in one flat file."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .base import UNET
from .loop import stream

UNET_LAYERS = "lora_unet_"
PER_LEVEL = UNET["num_res_blocks"] + 1  # blocks, going down and up; diffusers counts them anew in each level
BLOCK = re.compile(r"(input_blocks|middle_block|output_blocks)\.(\d+)(?:\.1)?\.(proj_in|proj_out|transformer_blocks.*)")


class LowRank(nn.Module):
    """What is added to one layer's weight: a linear layer or a 1x1 convolution."""

    def __init__(self, weight: Tensor, rank: int, alpha: float, random: torch.Generator) -> None:
        super().__init__()
        outputs, inputs, *window = weight.shape
        bound = 1 / math.sqrt(inputs)  # as a layer of torch begins
        first = bound * (2 * torch.rand(rank, inputs, *window, generator=random) - 1)
        self.down = nn.Parameter(first)
        self.up = nn.Parameter(torch.zeros(outputs, rank, *window))
        self.alpha = alpha

    def forward(self, weight: Tensor) -> Tensor:
        """The weight that the layer computes with."""
        return weight + change(self.down, self.up, self.alpha)


def change(down: Tensor, up: Tensor, alpha: float) -> Tensor:
    """What a pair of matrices adds to a weight."""
    rank = len(down)
    product = up.flatten(1) @ down.flatten(1)
    return (alpha / rank * product).view(*up.shape[:1], *down.shape[1:])


def layers(unet: nn.Module) -> dict[str, nn.Module]:
    """The layers that a LoRA changes, under kohya's names: all linear ones and 1x1 convolutions of the transformers."""
    found: dict[str, nn.Module] = {}
    for name, module in unet.named_modules():
        if isinstance(module, (nn.Linear, nn.Conv2d)) and (match := BLOCK.fullmatch(name)):
            block, number, layer = match.groups()
            place = f"{_place(block, int(number))}_{layer}".replace(".", "_")
            found[UNET_LAYERS + place] = module
    return found


def _place(block: str, number: int) -> str:
    """Where diffusers has a transformer."""
    if block == "input_blocks":
        level, layer = divmod(number - 1, PER_LEVEL)
        return f"down_blocks_{level}_attentions_{layer}"
    if block == "output_blocks":
        level, layer = divmod(number, PER_LEVEL)
        return f"up_blocks_{level}_attentions_{layer}"
    return "mid_block_attentions_0"


def add(unet: nn.Module, rank: int, alpha: float, seed: int) -> dict[str, LowRank]:
    """Put a LoRA that changes nothing yet on a UNet; of the two, only the LoRA asks for gradients."""
    unet.requires_grad_(False)
    added = {}
    for name, layer in layers(unet).items():
        weight = layer.get_parameter("weight")
        added[name] = LowRank(weight, rank, alpha, stream(seed, name))
        parametrize.register_parametrization(layer, "weight", added[name])
    return added


def tensors(added: Mapping[str, LowRank]) -> dict[str, Tensor]:
    """The content of a LoRA's file, in half precision."""
    found = {}
    for name, pair in added.items():
        found[f"{name}.lora_down.weight"] = pair.down.half()
        found[f"{name}.lora_up.weight"] = pair.up.half()
        found[f"{name}.alpha"] = torch.tensor(pair.alpha).half()
    return found


def about(name: str, rank: int, alpha: float) -> dict[str, str]:
    """What hosts look for in the file's metadata."""
    return {
        "ss_output_name": name,
        "ss_network_module": "networks.lora",
        "ss_network_dim": str(rank),
        "ss_network_alpha": str(alpha),
        "ss_base_model_version": "sd_v1",
        "ss_v2": "False",
    }


@torch.no_grad()
def merge(unet: nn.Module, content: Mapping[str, Tensor], strength: float = 1.0) -> None:
    """Add a LoRA file's content to a UNet's weights."""
    named = layers(unet)
    for name in sorted({key.partition(".")[0] for key in content}):
        down, up, alpha = (
            content[f"{name}.{part}"].float() for part in ("lora_down.weight", "lora_up.weight", "alpha")
        )
        named[name].get_parameter("weight").add_(strength * change(down, up, float(alpha)))
