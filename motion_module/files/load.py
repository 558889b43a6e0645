"""Load a file as a `MotionModule`."""

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
from .weights import FileHeader, are_weights, describe, read_header, read_tensors

# Dtypes without arithmetic. float16 represents all their values exactly.
_STORAGE_DTYPES = ("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz")


def load_motion_module(path: str | Path, *, kind: str | None = None) -> MotionModule:
    """Load a motion module of any kind, in any format in circulation.

    Supported are safetensors and pickled checkpoints in the key formats of AnimateDiff, HotShot-XL, AnimateLCM and
    diffusers (MotionAdapter), and training checkpoints that contain the whole UNet. Weights are loaded to the CPU in
    the file's dtype; float8, which has no arithmetic, becomes float16 without loss. The file may be renamed or deleted
    afterwards. The positional table is computed, as in official inference; its length in the file is the trained
    length.

    Args:
        path: the file, or the folder of a MotionAdapter.
        kind: ``"v1"``, ``"v2"``, ``"v3"``, ``"sdxl"``, ``"hotshot"`` or ``"lcm"``, for files that do not reveal their
            kind: those without positional tables and with an unspecific name. ``"pia"`` or ``"i2v"`` for a PIA or
            AnimateLCM-I2V model, which makes clips together with an image only, see `PiaComponent` and
            `ImageEncoderComponent`.

    Raises:
        MotionFileError: the file is damaged, is not a motion module, lacks weights, or its kind is ambiguous or differs
            from the given one. `inspect_motion_file` reports the same message.
    """
    source = find_source(Path(path))
    header = read_header(source.weights)
    found = detect_motion_module(source, header, kind)
    tensors = read_checked(source.weights, header, found.weights.values())
    state = {official: usable(source.weights, key, tensors.pop(key)) for official, key in found.weights.items()}
    return MotionModule.from_state_dict(state, found.layout, found.kind, source.name)


def read_checked(path: Path, header: FileHeader, names: Iterable[str]) -> dict[str, Tensor]:
    """Tensors by their keys in the file.

    Raises:
        MotionFileError: they cannot be read, or do not match the header.
    """
    names = list(names)
    tensors = read_tensors(path, names)
    if any(describe(tensors[name]) != header.tensors[name] for name in names):
        raise MotionFileError(
            f"{path.name} is damaged, or changed while it was read. Download it again.", code="AD-F27"
        )
    return tensors


def usable(path: Path, key: str, tensor: Tensor) -> Tensor:
    """A weight with memory of its own, in a dtype with arithmetic."""
    if dtype_name(tensor.dtype) in _STORAGE_DTYPES:
        tensor = tensor.to(torch.float16)
    if not are_weights(tensor):
        raise MotionFileError(
            f"{path.name} has weights that are no finite numbers ({key}). Download it again from its publisher.",
            code="AD-F33",
        )
    owns_its_memory = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if owns_its_memory else tensor.clone()
