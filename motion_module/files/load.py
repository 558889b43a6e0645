"""From a file to a `MotionModule`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from motion_module.errors import MotionFileError
from motion_module.network import MotionModule

from .detect import detect_motion_module
from .diffusers_format import find_source
from .safe_unpickler import dtype_name
from .weights import FileHeader, describe, read_header, read_tensors

# What holds weights but cannot compute. Half precision holds each of their numbers exactly.
_STORAGE_DTYPES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def load_motion_module(path: str | Path, *, kind: str | None = None) -> MotionModule:
    """Load a motion module of any kind, in any format that it is passed around in.

    That is: safetensors or a pickled checkpoint, official, of HotShot-XL, of AnimateLCM, of diffusers (MotionAdapter),
    or out of a training checkpoint with the whole UNet. The weights keep the file's dtype, on the CPU, except float8,
    with which nothing can compute: it becomes float16, exactly. The file may be renamed or deleted afterwards. The
    positional table is computed anew (official inference does so too); its length in the file is the trained length.

    Args:
        path: the file, or the folder of a MotionAdapter.
        kind: ``"v1"``, ``"v2"``, ``"v3"``, ``"sdxl"``, ``"hotshot"`` or ``"lcm"``, for a file whose kind cannot be
            told: one without positional tables whose name says nothing.

    Raises:
        MotionFileError: the file is broken, is no motion module, lacks weights, or its kind cannot be told or is not
            the one given. The message is one line, the same as `inspect_motion_file` gives.
    """
    source = find_source(Path(path))
    header = read_header(source.weights)
    found = detect_motion_module(source, header, kind)
    tensors = read_checked(source.weights, header, found.weights.values())
    state = {official: _owned(tensors[key]) for official, key in found.weights.items()}
    return MotionModule.from_state_dict(state, found.layout, found.kind, source.name)


def read_checked(path: Path, header: FileHeader, names: Iterable[str]) -> dict[str, Tensor]:
    """Tensors by their names in a file, mapped from it where that can be.

    Raises:
        MotionFileError: they are not what the header says, or cannot be read.
    """
    names = list(names)
    tensors = read_tensors(path, names)
    if any(describe(tensors[name]) != header.tensors[name] for name in names):
        raise MotionFileError(f"{path.name}: changed while it was read, or damaged. Download it again.")
    return tensors


def _owned(tensor: Tensor) -> Tensor:
    dtype = torch.float16 if dtype_name(tensor.dtype) in _STORAGE_DTYPES else tensor.dtype
    return torch.empty(tensor.shape, dtype=dtype).copy_(tensor)
