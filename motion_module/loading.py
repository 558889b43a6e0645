"""From a file to a `MotionModule`: tidy the names, tell the kind by what the file holds, check every key."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import torch
from torch import Tensor

from .errors import MotionFileError
from .files import read_tensors
from .kinds import KINDS, SDXL_LEVELS, V1_TABLE_LENGTH, V2, V3, Kind
from .network import NORM_GROUPS, Layout, MotionModule

_PREFIX = "module."  # left by distributed training
_TABLE = re.compile(r"\.pos_encoder\.pe$")
_SITE_WIDTH = re.compile(r"^(down_blocks|mid_block|up_blocks)\.(?:(\d+)\.)?motion_modules\.(\d+)\..*\.proj_in\.weight$")
_PROBLEMS_SHOWN = 3


def load_motion_module(path: str | Path, *, kind: str | None = None) -> MotionModule:
    """Load an official v2 or v3 motion module (safetensors or a pickled checkpoint).

    The weights keep the file's dtype, on the CPU; the file may be renamed or deleted afterwards. The positional table
    is computed anew (official inference does so too); its length in the file is the trained length.

    Args:
        path: the file.
        kind: ``"v2"`` or ``"v3"`` for a file without positional tables, whose kind cannot be told otherwise.

    Raises:
        MotionFileError: the file is broken, is no motion module, is of a kind that we do not run, or lacks weights.
    """
    path = Path(path)
    state = {key.removeprefix(_PREFIX): tensor for key, tensor in read_tensors(path).items()}
    tables = [tensor for key, tensor in state.items() if _TABLE.search(key)]
    weights = {key: tensor for key, tensor in state.items() if not _TABLE.search(key)}
    found = _kind_of(path.name, weights, tables, kind)
    layout = _layout_of(path.name, weights, tables, found)
    _check_keys(path.name, weights, MotionModule.expected_shapes(layout, found))
    owned = {key: torch.empty_like(tensor).copy_(tensor) for key, tensor in weights.items()}
    return MotionModule.from_state_dict(owned, layout, found, path.name)


def _kind_of(name: str, weights: dict[str, Tensor], tables: list[Tensor], wanted: str | None) -> Kind:
    if wanted is not None and wanted not in KINDS:
        raise MotionFileError(f"kind={wanted!r} is not known. Use one of: {', '.join(KINDS)}.")
    if not any("motion_modules." in key for key in weights):
        raise MotionFileError(
            f"{name}: no motion module (it holds no motion_modules weights). Choose a file such as v3_sd15_mm.ckpt."
        )
    if any("lora" in key for key in weights):
        raise MotionFileError(f"{name}: a motion LoRA, not a motion module. Choose a file such as v3_sd15_mm.ckpt.")
    if not any(".temporal_transformer." in key for key in weights):
        raise MotionFileError(f"{name}: a motion module in another layout than the official one, which we do not run.")
    levels = 1 + max((int(m[1]) for key in weights if (m := re.match(r"down_blocks\.(\d+)\.", key))), default=-1)
    if levels == SDXL_LEVELS:
        raise MotionFileError(f"{name}: a motion module for SDXL, which this version does not run. Use one for SD 1.5.")
    if tables and tables[0].shape[1] == V1_TABLE_LENGTH:
        raise MotionFileError(f"{name}: a v1 motion module, which this version does not run. Use v2 or v3.")
    by_layout = V2 if any(key.startswith("mid_block.") for key in weights) else V3
    if wanted is not None and KINDS[wanted] is not by_layout:
        raise MotionFileError(f"{name}: has the sites of a {by_layout.name} module; it cannot be loaded as {wanted}.")
    if wanted is None and not tables:
        raise MotionFileError(
            f"{name}: without its positional tables the kind cannot be told for sure. "
            f'If it is a {by_layout.name} module, pass kind="{by_layout.name}".'
        )
    return by_layout


def _layout_of(name: str, weights: dict[str, Tensor], tables: list[Tensor], kind: Kind) -> Layout:
    widths: dict[str, dict[int, dict[int, int]]] = defaultdict(lambda: defaultdict(dict))
    for key, tensor in weights.items():
        if match := _SITE_WIDTH.match(key):
            block, index, site = match[1], int(match[2] or 0), int(match[3])
            widths[block][index][site] = tensor.shape[0]

    def in_order(block: str) -> tuple[tuple[int, ...], ...]:
        blocks = widths[block]
        return tuple(tuple(blocks[i][j] for j in sorted(blocks[i])) for i in sorted(blocks))

    every = (width for blocks in widths.values() for sites in blocks.values() for width in sites.values())
    if odd := next((width for width in every if width % NORM_GROUPS), None):
        raise MotionFileError(f"{name}: a width of {odd} is not a multiple of {NORM_GROUPS}; the file is broken.")
    mid = widths["mid_block"][0].get(0) if kind.mid_block else None
    length = int(tables[0].shape[1]) if tables else kind.table_length
    return Layout(in_order("down_blocks"), mid, in_order("up_blocks"), length)


def _check_keys(name: str, weights: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    problems = [f"{key} is missing" for key in expected if key not in weights]
    problems += [f"{key} does not belong there" for key in weights if key not in expected]
    problems += [
        f"{key} has shape {tuple(weights[key].shape)} instead of {shape}"
        for key, shape in expected.items()
        if key in weights and tuple(weights[key].shape) != shape
    ]
    if problems:
        shown = "; ".join(problems[:_PROBLEMS_SHOWN])
        more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
        raise MotionFileError(f"{name}: not a complete official motion module: {shown}{more}. Download it again.")
