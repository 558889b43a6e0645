"""The key formats of motion modules in circulation, and the official name of each weight.

An official name is
``down_blocks.0.motion_modules.0.temporal_transformer.transformer_blocks.0.attention_blocks.0.to_q.weight``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

OFFICIAL = "official"
MOTION_ADAPTER = "MotionAdapter"  # diffusers
HOTSHOT = "HotShot-XL"
ANIMATELCM = "AnimateLCM"

# Prefixes added by distributed training, by whole UNets, and by programs that store several models in a file.
_PREFIXES = re.compile(r"^(?:(?:module|unet|model|diffusion_model|animatediff)\.)+")

# The first pattern that matches a key determines the format.
_FORMAT_PATTERNS = (
    (HOTSHOT, re.compile(r"\.temporal_attentions\.\d+\.")),
    (MOTION_ADAPTER, re.compile(r"\.motion_modules\.\d+\.(?!temporal_transformer\.)")),
    (ANIMATELCM, re.compile(r"\.pos_encoder\.pos_encoding$")),
)

_TO_OFFICIAL = (
    (re.compile(r"\.temporal_attentions\.(\d+)\."), r".motion_modules.\1.temporal_transformer."),
    (re.compile(r"(\.motion_modules\.\d+)\.(?!temporal_transformer\.)"), r"\1.temporal_transformer."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.attn1\."), r"\1.attention_blocks.0."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.attn2\."), r"\1.attention_blocks.1."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.norm1\."), r"\1.norms.0."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.norm2\."), r"\1.norms.1."),
    (re.compile(r"(\.transformer_blocks\.\d+)\.norm3\."), r"\1.ff_norm."),
    (re.compile(r"\.pos_encoder\.(?:positional_encoding|pos_encoding)$"), r".pos_encoder.pe"),
)

_TO_MOTION_ADAPTER = (
    (".temporal_transformer.", "."),
    (".attention_blocks.0.", ".attn1."),
    (".attention_blocks.1.", ".attn2."),
    (".norms.0.", ".norm1."),
    (".norms.1.", ".norm2."),
    (".ff_norm.", ".norm3."),
)

TABLE = ".pos_encoder.pe"  # official: one table per attention
BLOCK_TABLE = ".pos_embed.pe"  # diffusers: one table for both attentions of a block
_MOTION = re.compile(r"(?:^|\.)(?:motion_modules|temporal_attentions)\.\d+\.")


def without_prefixes(name: str) -> str:
    """A key without prefixes."""
    return _PREFIXES.sub("", name)


def is_motion_weight(name: str) -> bool:
    """Whether a key belongs to a motion module, in any format."""
    return _MOTION.search(name) is not None


def format_of(names: Iterable[str]) -> str:
    """Key format of a file, from its keys without prefixes."""
    names = list(names)
    return next((what for what, sign in _FORMAT_PATTERNS if any(sign.search(name) for name in names)), OFFICIAL)


def official_name(name: str) -> str:
    """Official name of a motion weight without prefixes. A diffusers table keeps its name, shared by the block."""
    for pattern, official in _TO_OFFICIAL:
        name = pattern.sub(official, name)
    return name


def tables_of(name: str) -> tuple[str, ...]:
    """Official tables that a table provides: itself, or those of both attentions of its block."""
    if not name.endswith(BLOCK_TABLE):
        return (name,)
    block = name.removesuffix(BLOCK_TABLE)
    return tuple(f"{block}.attention_blocks.{number}{TABLE}" for number in (0, 1))


def motion_adapter_name(name: str) -> str:
    """Name of an official weight in a diffusers MotionAdapter. Both tables of a block get the same name."""
    if name.endswith(TABLE):
        name = re.sub(r"\.attention_blocks\.\d+\.pos_encoder\.pe$", BLOCK_TABLE, name)
    for official, adapter in _TO_MOTION_ADAPTER:
        name = name.replace(official, adapter)
    return name
