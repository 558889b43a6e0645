"""Domain adapter: the LoRA on spatial attention that v3 was trained with (``v3_sd15_adapter.ckpt``).

The official file uses the key format of early diffusers LoRAs, which the WebUI does not load, so users convert it to
kohya's format. Both are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from motion_module.errors import MotionFileError
from motion_module.files.key_formats import is_motion_weight
from motion_module.files.weights import read_header

from .low_rank import (
    LEVEL,
    NUMBER,
    PART,
    LowRank,
    block_name,
    count_layers,
    part_of,
    read_low_ranks,
    reject_unsupported_lora_types,
)
from .motion_lora import holds_motion_lora

_NAME = re.compile(
    rf"{LEVEL}attentions[._](?P<site>{NUMBER})[._]transformer_blocks[._](?P<block>{NUMBER})[._]attn(?P<attn>[12])[._]"
    rf"(?:processor[._])?to_(?P<layer>q|k|v|out)(?:[._]0)?{PART}"
)
_ATTENTION = re.compile(r"attn[12][._](?:processor[._])?to_(?:q|k|v|out)")
_OFFICIAL = re.compile(r"\.attn[12]\.processor\.to_(?:q|k|v|out)_lora\.down\.weight$")


@dataclass(frozen=True)
class DomainAdapter:
    """The low-rank updates of a domain adapter file.

    Attributes:
        name: file name, for messages.
        deltas: update by official layer name, such as
            ``down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_out.0``.
        unused: number of other layers with a LoRA in the file, as image LoRAs have.
    """

    name: str
    deltas: Mapping[str, LowRank]
    unused: int = 0


def holds_domain_adapter(names: Iterable[str]) -> bool:
    """Whether these keys are those of a domain adapter in the official format, and nothing else."""
    names = list(names)
    if any(is_motion_weight(name) for name in names) or holds_motion_lora(names):
        return False
    return any(map(_OFFICIAL.search, names))


def is_domain_adapter(path: str | Path) -> bool:
    """Whether a file is a domain adapter in the official format, by its header; False for unreadable files.

    Early diffusers used the same format for every LoRA; any of them can serve as an adapter.
    """
    try:
        return holds_domain_adapter(read_header(Path(path)).tensors)
    except MotionFileError:
        return False


def load_domain_adapter(path: str | Path) -> DomainAdapter:
    """Load a domain adapter from the official file, or from any LoRA in a known key format.

    Raises:
        MotionFileError: the file is damaged, or changes no spatial attention.
    """
    path = Path(path)
    names = read_header(path).tensors
    reject_unsupported_lora_types(path.name, filter(_ATTENTION.search, names))
    found = {name: match for name in names if (match := _NAME.fullmatch(name))}
    if not found:
        raise MotionFileError(
            f"{path.name} is not a domain adapter. Choose a file such as v3_sd15_adapter.ckpt.", code="AD-N01"
        )
    places = {name: (_official_name(match), part_of(match)) for name, match in found.items()}
    unused = count_layers(name for name in names if name not in found)
    return DomainAdapter(path.name, read_low_ranks(path, places), unused)


def _official_name(match: re.Match[str]) -> str:
    layer = "to_out.0" if match["layer"] == "out" else f"to_{match['layer']}"
    return (
        f"{block_name(match)}.attentions.{match['site']}.transformer_blocks.{match['block']}"
        f".attn{match['attn']}.{layer}"
    )
