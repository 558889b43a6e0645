"""From a file to a `MotionModule`: tidy the names, tell the kind by what the file holds, check every key."""

from __future__ import annotations

import statistics
from pathlib import Path

import torch
from torch import Tensor

from .errors import MotionFileError
from .files import read_tensors
from .kinds import KINDS, SDXL_LEVELS, SITES_DOWN, SITES_UP, V1_TABLE_LENGTH, V2, V3, Kind
from .network import NORM_GROUPS, Layout, MotionModule

_PREFIX = "module."  # left by distributed training
_TABLE = "pos_encoder.pe"
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
    lengths = [int(t.shape[1]) for key, t in state.items() if key.endswith(f".{_TABLE}") and t.dim() == 3]
    length = statistics.mode(lengths) if lengths else None
    found = _kind_of(path.name, state, length, kind)
    layout = _layout_of(path.name, state, length, found)
    _check_tensors(path.name, state, _expected_shapes(layout, found, with_tables=length is not None))
    owned = {
        key: torch.empty_like(tensor).copy_(tensor) for key, tensor in state.items() if not key.endswith(f".{_TABLE}")
    }
    return MotionModule.from_state_dict(owned, layout, found, path.name)


def _kind_of(name: str, state: dict[str, Tensor], length: int | None, wanted: str | None) -> Kind:
    if wanted is not None and wanted not in KINDS:
        raise MotionFileError(f"kind={wanted!r} is not known. Use one of: {', '.join(KINDS)}.")
    if not any("motion_modules" in key for key in state):
        raise MotionFileError(
            f"{name}: no motion module (it holds no motion_modules weights). Choose a file such as v3_sd15_mm.ckpt."
        )
    if any("lora" in key for key in state):
        raise MotionFileError(f"{name}: a motion LoRA, not a motion module. Choose a file such as v3_sd15_mm.ckpt.")
    if not any(".temporal_transformer." in key for key in state):
        raise MotionFileError(f"{name}: a motion module in another layout than the official one, which we do not run.")
    if len({key.split(".")[1] for key in state if key.startswith(("down_blocks.", "up_blocks."))}) == SDXL_LEVELS:
        raise MotionFileError(f"{name}: a motion module for SDXL, which this version does not run. Use one for SD 1.5.")
    if length == V1_TABLE_LENGTH:
        raise MotionFileError(f"{name}: a v1 motion module, which this version does not run. Use v2 or v3.")
    by_layout = V2 if any(key.startswith("mid_block.") for key in state) else V3
    if wanted is not None and KINDS[wanted] is not by_layout:
        raise MotionFileError(f"{name}: has the sites of a {by_layout.name} module; it cannot be loaded as {wanted}.")
    if wanted is None and length is None:
        raise MotionFileError(
            f"{name}: without its positional tables the kind cannot be told for sure. "
            f'If it is a {by_layout.name} module, pass kind="{by_layout.name}".'
        )
    return by_layout


def _layout_of(name: str, state: dict[str, Tensor], length: int | None, kind: Kind) -> Layout:
    """Every other shape follows from the width at each resolution."""
    widths = []
    for level in range(kind.levels):
        key = f"down_blocks.{level}.motion_modules.0.temporal_transformer.proj_in.weight"
        if key not in state:
            raise _incomplete(name, [f"{key} is missing"])
        shape = tuple(state[key].shape)
        if len(shape) != 2 or not shape[0] or shape[0] % NORM_GROUPS:
            raise _incomplete(name, [f"{key} has shape {shape}; its width should be a multiple of {NORM_GROUPS}"])
        widths.append(shape[0])
    return Layout(
        down=tuple((width,) * SITES_DOWN for width in widths),
        mid=widths[-1] if kind.mid_block else None,
        up=tuple((width,) * SITES_UP for width in reversed(widths)),
        trained_length=length or kind.table_length,
    )


def _expected_shapes(layout: Layout, kind: Kind, *, with_tables: bool) -> dict[str, tuple[int, ...]]:
    shapes = MotionModule.expected_shapes(layout, kind)
    attentions = {key.removesuffix("to_q.weight"): shape[0] for key, shape in shapes.items() if "to_q" in key}
    tables = {f"{attention}{_TABLE}": (1, layout.trained_length, width) for attention, width in attentions.items()}
    return shapes | tables if with_tables else shapes


def _check_tensors(name: str, state: dict[str, Tensor], expected: dict[str, tuple[int, ...]]) -> None:
    problems = [f"{key} is missing" for key in expected if key not in state]
    problems += [f"{key} does not belong there" for key in state if key not in expected]
    present = [(key, state[key], shape) for key, shape in expected.items() if key in state]
    problems += [
        f"{key} has shape {tuple(t.shape)} instead of {shape}" for key, t, shape in present if t.shape != shape
    ]
    problems += [f"{key} holds {t.dtype}, not floats" for key, t, _ in present if not t.is_floating_point()]
    if problems:
        raise _incomplete(name, problems)


def _incomplete(name: str, problems: list[str]) -> MotionFileError:
    shown = "; ".join(problems[:_PROBLEMS_SHOWN])
    more = f"; and {len(problems) - _PROBLEMS_SHOWN} more" if len(problems) > _PROBLEMS_SHOWN else ""
    return MotionFileError(f"{name}: not a complete official motion module: {shown}{more}. Download it again.")
