"""Read tensors from a safetensors file or a pickle, and nothing but tensors.

Files come from strangers. Safetensors cannot carry code. A pickle goes through an unpickler that knows tensors only;
any other class becomes an inert stub, since early official files hold configuration objects beside the weights.
Tensors may still be mapped from the file: the caller copies those it keeps.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from .errors import MotionFileError

MOTION_FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

_WRAPPERS = ("state_dict", "module", "model")  # training scripts nest the weights under one of these
_ZIP_MAGIC = b"PK\x03\x04"
_LEGACY_PICKLE_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch.save before 1.6
_TORCHSCRIPT_MEMBER = "constants.pkl"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a file by name, on the CPU, taken out of the dictionaries that they may be nested in.

    Raises:
        MotionFileError: the file is missing, empty, cut off, or not a weights file at all.
    """
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise MotionFileError(f"{path.name}: cannot be read ({error.strerror}). Check the path {path}.") from error
    _refuse_what_is_no_weights_file(path.name, head)
    if head.startswith((_ZIP_MAGIC, _LEGACY_PICKLE_MAGIC)):
        return _tensors_of(_read_pickle(path, zipped=head.startswith(_ZIP_MAGIC)))
    try:
        return safetensors.torch.load_file(path)
    except (safetensors.SafetensorError, OSError, ValueError) as error:
        raise MotionFileError(f"{path.name}: not a complete weights file ({error}). Download it again.") from error


def _refuse_what_is_no_weights_file(name: str, head: bytes) -> None:
    if not head:
        raise MotionFileError(f"{name}: the file is empty. Download it again.")
    if head.startswith(b"version https://git-lfs"):
        raise MotionFileError(f"{name}: a Git LFS pointer, not the weights. Download the file itself (about 1.7 GB).")
    if head.lstrip().startswith(b"<"):
        raise MotionFileError(f"{name}: a web page, not the weights. Download the file itself, not its page.")


def _read_pickle(path: Path, zipped: bool) -> Any:
    try:
        if zipped and _is_torchscript(path):
            raise MotionFileError(f"{path.name}: a TorchScript program, not weights. It is not run.")
        # Not `torch.load`: hosts replace that name (the WebUI by one that refuses files of current torch).
        return torch.serialization.load(
            str(path), map_location="cpu", pickle_module=_tensors_only, weights_only=False, mmap=zipped
        )
    except MotionFileError:
        raise
    except Exception as error:  # a broken or hostile pickle may raise anything
        raise MotionFileError(f"{path.name}: not a complete weights file ({error}). Download it again.") from error


def _is_torchscript(path: Path) -> bool:
    with zipfile.ZipFile(path) as archive:
        return any(member.rpartition("/")[2] == _TORCHSCRIPT_MEMBER for member in archive.namelist())


def _tensors_of(payload: Any) -> dict[str, Tensor]:
    while isinstance(payload, Mapping):
        inner = next((payload[key] for key in _WRAPPERS if isinstance(payload.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value.detach() for key, value in payload.items() if isinstance(value, Tensor)}
        payload = inner
    return {}


class _Inert(dict):  # type: ignore[type-arg]
    """Stands for an object of an unknown class: takes whatever the pickle does to it and does nothing."""

    def __new__(cls, *_args: object, **_kwargs: object) -> _Inert:
        return super().__new__(cls)

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass

    def extend(self, items: object) -> None:
        pass

    def add(self, item: object) -> None:
        pass


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class _TensorsOnlyUnpickler(pickle.Unpickler):
    """Resolves what a state dict of tensors needs; storages are resolved by torch before it asks here."""

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and isinstance(value := getattr(torch, name, None), torch.dtype):
            return value
        return _ALLOWED.get((module, name), _Inert)


def _load(file: Any, **kwargs: Any) -> Any:
    return _TensorsOnlyUnpickler(file, **kwargs).load()


_tensors_only = ModuleType("tensors_only_pickle")
_tensors_only.__dict__.update(Unpickler=_TensorsOnlyUnpickler, load=_load, UnpicklingError=pickle.UnpicklingError)
