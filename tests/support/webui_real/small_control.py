"""Small random control models for the small checkpoint, of each kind that sd-webui-controlnet loads."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file
from support.webui_real.small_models import random_tensor
from support.webui_real.small_sdxl import SHAPE as SDXL
from support.webui_real.small_shapes import CHANNEL_MULT, MODEL_CHANNELS, Shapes, UnetShape, conv, linear, unet_shapes
from support.webui_real.small_text import CONTEXT_DIM

NAME = "small_sd15_canny"  # the extension reads the base from it
SDXL_NAME = "small_sdxl_canny"
ADAPTER, LITE, IMAGE_PROMPT = "small_sd15_t2i", "small_sd15_lllite", "small_sd15_ip-adapter"
KINDS = {"ControlNet": NAME, "T2I": ADAPTER, "LLLite": LITE, "IP-Adapter": IMAGE_PROMPT}
SDXL_KINDS = {kind: name.replace("sd15", "sdxl") for kind, name in KINDS.items()}
EMBEDDING = 48  # width of what an IP-Adapter gets of an image
_SHAPE = UnetShape()
_OUTPUTS = (32, 32, 32, 32, 64, 64, 64, 128, 128, 128, 128, 128)
_SDXL_OUTPUTS = _OUTPUTS[:9]
_HINT = ((3, 16), (16, 16), (16, 32), (32, 32), (32, 96), (96, 96), (96, 256), (256, 32))
_LOUD = {"input_hint_block.14": 4.0, "input_hint_block.0.weight": 3.0}  # images with other hints look different
_UNSHUFFLED = 3 * 8 * 8  # channels of what an adapter sees
_SDXL_UNSHUFFLED = 3 * 16 * 16
_TOKENS = 4
_WIDTHS = [MODEL_CHANNELS * mult for mult in CHANNEL_MULT]
# Widths of the attention in the transformers, in the order in which an IP-Adapter's file numbers them.
_ATTENTIONS = (32, 32, 64, 64, 128, 128, 128, 128, 128, 64, 64, 64, 32, 32, 32, 128)


_SDXL_ATTENTIONS = (
    *[64] * 4,  # two transformers with two blocks on the way down, and then two with three
    *[128] * 6,
    *[128] * 9,
    *[64] * 6,
    *[128] * 3,
)


def write_control_model(folder: Path, seed: int = 100) -> Path:
    """Writes a ControlNet into the WebUI's folder of control models."""
    return write_small(folder, NAME, control_shapes(), seed)


def write_sdxl_control_model(folder: Path, seed: int = 104) -> Path:
    """Writes a ControlNet for the small SDXL checkpoint, with few transformers, as the extension calls "mid"."""
    shape = replace(SDXL, depths=(0, 0, 1), middle_depth=1)
    return write_small(folder, SDXL_NAME, control_shapes(shape, _SDXL_OUTPUTS), seed)


def control_shapes(unet: UnetShape = _SHAPE, widths: Sequence[int] = _OUTPUTS) -> Shapes:
    shapes = OrderedDict(
        (name, shape)
        for name, shape in unet_shapes(unet).items()
        if name.startswith(("time_embed", "label_emb", "input_blocks", "middle_block"))
    )
    for number, width in enumerate(widths):
        conv(shapes, f"zero_convs.{number}.0", width, width, kernel=1)
    for number, (inputs, outputs) in enumerate(_HINT):
        conv(shapes, f"input_hint_block.{2 * number}", inputs, outputs)
    conv(shapes, "middle_block_out.0", widths[-1], widths[-1], kernel=1)
    return shapes


def write_sdxl_models(folder: Path) -> None:
    """Writes a model of each kind for the small SDXL checkpoint."""
    write_sdxl_control_model(folder)
    write_small(folder, SDXL_KINDS["T2I"], _adapter_shapes(_SDXL_UNSHUFFLED), 105, {"conv_in": 4.0})
    shapes = _lite_shapes(((4, 64), (5, 64), (7, 128), (8, 128)))
    write_small(folder, SDXL_KINDS["LLLite"], shapes, 106, {".up.0": 8.0, "conditioning1.0": 4.0})
    shapes = _image_prompt_shapes(SDXL.context, _SDXL_ATTENTIONS)
    write_small(folder, SDXL_KINDS["IP-Adapter"], shapes, 107, {"to_v_ip": 3.0})


def write_adapter(folder: Path, seed: int = 101) -> Path:
    """Writes a T2I adapter."""
    return write_small(folder, ADAPTER, _adapter_shapes(_UNSHUFFLED), seed, {"conv_in": 4.0})


def _adapter_shapes(seen: int) -> Shapes:
    shapes: Shapes = OrderedDict()
    conv(shapes, "conv_in", seen, _WIDTHS[0])
    for level, width in enumerate(_WIDTHS):
        for number in (0, 1):
            block, before = f"body.{2 * level + number}", _WIDTHS[max(level - 1, 0)] if number == 0 else width
            if before != width:
                conv(shapes, f"{block}.in_conv", before, width, kernel=1)
            conv(shapes, f"{block}.block1", width, width)
            conv(shapes, f"{block}.block2", width, width, kernel=1)
    return shapes


def write_lite(folder: Path, seed: int = 102) -> Path:
    """Writes a ControlLLLite for the queries of the first levels."""
    shapes = _lite_shapes(((1, 32), (2, 32), (4, 64), (5, 64)))
    return write_small(folder, LITE, shapes, seed, {".up.0": 8.0, "conditioning1.0": 4.0})


def _lite_shapes(blocks: Sequence[tuple[int, int]]) -> Shapes:
    shapes: Shapes = OrderedDict()
    for block, width in blocks:
        name = f"lllite_unet_input_blocks_{block}_1_transformer_blocks_0_attn1_to_q"
        conv(shapes, f"{name}.conditioning1.0", 3, 8, kernel=4)
        conv(shapes, f"{name}.conditioning1.2", 8, 16, kernel=2)
        linear(shapes, f"{name}.down.0", width, 16)
        linear(shapes, f"{name}.mid.0", 32, 16)
        linear(shapes, f"{name}.up.0", 16, width)
    return shapes


def write_image_prompt(folder: Path, seed: int = 103) -> Path:
    """Writes an IP-Adapter, which takes embeddings of the width `EMBEDDING`."""
    return write_small(folder, IMAGE_PROMPT, _image_prompt_shapes(CONTEXT_DIM, _ATTENTIONS), seed, {"to_v_ip": 3.0})


def _image_prompt_shapes(context: int, widths: Sequence[int]) -> Shapes:
    shapes: Shapes = OrderedDict()
    linear(shapes, "image_proj.proj", EMBEDDING, _TOKENS * context)
    shapes["image_proj.norm.weight"] = shapes["image_proj.norm.bias"] = (context,)
    return OrderedDict({**shapes, **prompt_layers(context, widths)})


def prompt_layers(context: int = CONTEXT_DIM, widths: Sequence[int] = _ATTENTIONS) -> Shapes:
    """What an IP-Adapter of any shape adds to the attentions."""
    shapes: Shapes = OrderedDict()
    for number, width in enumerate(widths):
        for part in "kv":
            linear(shapes, f"ip_adapter.{2 * number + 1}.to_{part}_ip", context, width, bias=False)
    return shapes


def write_small(folder: Path, name: str, shapes: Shapes, seed: int, loud: dict[str, float] = _LOUD) -> Path:
    """Writes random tensors, of which some are louder."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: random_tensor(name, shape, generator) for name, shape in shapes.items()}
    louder = {name: factor for part, factor in loud.items() for name in tensors if part in name}
    tensors = {name: tensor * louder.get(name, 1.0) for name, tensor in tensors.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.safetensors"
    save_file({name: tensor.half() for name, tensor in tensors.items()}, path)
    return path
