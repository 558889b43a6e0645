"""A small random ControlNet for the small checkpoint, which sd-webui-controlnet loads."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

import torch
from safetensors.torch import save_file
from support.webui_real.small_models import random_tensor
from support.webui_real.small_shapes import UnetShape, conv, unet_shapes

NAME = "small_sd15_canny"  # the extension reads the base from it
_OUTPUTS = (32, 32, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128)
_HINT = ((3, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, 32))
_LOUD = {"input_hint_block.14": 4.0, "input_hint_block.0.weight": 3.0}  # images with other hints look different


def write_control_model(folder: Path, seed: int = 100) -> Path:
    """Writes the model into the WebUI's folder of them."""
    shapes = OrderedDict(
        (name, shape)
        for name, shape in unet_shapes(UnetShape()).items()
        if name.startswith(("time_embed", "input_blocks", "middle_block"))
    )
    for number, width in enumerate(_OUTPUTS):
        conv(shapes, f"zero_convs.{number}.0", width, width, kernel=1)
    for number, (inputs, outputs) in enumerate(_HINT):
        conv(shapes, f"input_hint_block.{2 * number}", inputs, outputs)
    conv(shapes, "middle_block_out.0", _OUTPUTS[-1], _OUTPUTS[-1], kernel=1)
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: random_tensor(name, shape, generator) for name, shape in shapes.items()}
    louder = {name: factor for part, factor in _LOUD.items() for name in tensors if part in name}
    tensors = {name: tensor * louder.get(name, 1.0) for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{NAME}.safetensors"
    save_file({name: tensor.half() for name, tensor in tensors.items()}, path)
    return path
