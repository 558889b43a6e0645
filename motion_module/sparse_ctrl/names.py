"""The spellings of SparseCtrl encoders in circulation, and the official name of each weight.

The official files and diffusers name the layers for images alike, and the temporal transformers each as their motion
modules. The files for sd-webui-controlnet have the official temporal transformers among layers named as in LDM.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from motion_module.files.key_formats import is_motion_weight, official_name, without_prefixes

OFFICIAL, MIXED, DIFFUSERS = "official", "LDM and official", "diffusers"
_CONTROL = re.compile(r"^(?:(?:control_model|controlnet)\.)+")  # prefixes of files that hold a ControlNet
_LAYERS = 3  # of each resolution in LDM's list: two ResNet blocks and what halves height and width
_LDM_BLOCK = re.compile(r"input_blocks\.(\d{1,2})\.([01])\.(.*)", re.DOTALL)
LDM_MIDDLE = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}
LDM_RESNET = (
    ("in_layers.0.", "norm1."),
    ("in_layers.2.", "conv1."),
    ("emb_layers.1.", "time_emb_proj."),
    ("out_layers.0.", "norm2."),
    ("out_layers.3.", "conv2."),
    ("skip_connection.", "conv_shortcut."),
)
LDM_STARTS = (
    ("time_embed.0.", "time_embedding.linear_1."),
    ("time_embed.2.", "time_embedding.linear_2."),
    ("input_blocks.0.0.", "conv_in."),
    ("input_hint_block.0.", "controlnet_cond_embedding."),
    ("middle_block_out.0.", "controlnet_mid_block."),
)
_LDM_OUTPUT = re.compile(r"zero_convs\.(\d{1,2})\.0\.(.*)", re.DOTALL)
_LDM_SIGNS = ("input_blocks.", "zero_convs.")
_IMAGE, _DRAWING = "controlnet_cond_embedding.weight", "controlnet_cond_embedding.conv_in.weight"


def plain_name(name: str) -> str:
    """A key without the prefixes of training scripts and of files with several models."""
    return without_prefixes(_CONTROL.sub("", without_prefixes(name)))


def official(name: str) -> str:
    """The official name of a weight without prefixes, from any spelling."""
    if is_motion_weight(name):
        return official_name(name)
    for start, ours in LDM_STARTS:
        if name.startswith(start):
            return ours + name.removeprefix(start)
    if match := _LDM_OUTPUT.fullmatch(name):
        return f"controlnet_down_blocks.{int(match[1])}.{match[2]}"
    if name.startswith("middle_block."):
        number, _, rest = name.removeprefix("middle_block.").partition(".")
        return f"mid_block.{LDM_MIDDLE.get(number, number)}.{_resnet(rest)}"
    if match := _LDM_BLOCK.fullmatch(name):
        return _ldm_layer(int(match[1]) - 1, match[2], match[3])
    return name


def spelling_of(names: Iterable[str]) -> str:
    """The spelling of a file, from its keys without prefixes."""
    names = list(names)
    if any(name.startswith(_LDM_SIGNS) for name in names):
        return MIXED
    return OFFICIAL if any(".temporal_transformer." in name for name in names) else DIFFUSERS


def reads_images(names: Iterable[str]) -> bool | None:
    """Whether an encoder with these official names reads images; False: drawings; None: neither is there."""
    names = set(names)
    return True if _IMAGE in names else False if _DRAWING in names else None


def _ldm_layer(number: int, part: str, rest: str) -> str:
    level, layer = divmod(number, _LAYERS)
    block = f"down_blocks.{level}"
    if layer == _LAYERS - 1:
        return f"{block}.downsamplers.0.conv.{rest.removeprefix('op.')}"
    return f"{block}.attentions.{layer}.{rest}" if part == "1" else f"{block}.resnets.{layer}.{_resnet(rest)}"


def _resnet(name: str) -> str:
    for start, ours in LDM_RESNET:
        if name.startswith(start):
            return ours + name.removeprefix(start)
    return name
