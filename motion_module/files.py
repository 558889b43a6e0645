"""Read tensors from a safetensors file or a pickle, and nothing but tensors.

Files come from strangers. Safetensors cannot carry code. A pickle goes through an unpickler that knows tensors only;
any other class becomes an inert stub, since early official files hold configuration objects beside the weights.
Tensors may still be mapped from the file: the caller copies those it keeps.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
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
_REASON_LENGTH = 200


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
    zipped = head.startswith(_ZIP_MAGIC)
    try:
        if zipped or head.startswith(_LEGACY_PICKLE_MAGIC):
            return _tensors_of(_read_pickle(path, zipped))
        return safetensors.torch.load_file(path)
    except MotionFileError:
        raise
    except Exception as error:  # a broken or hostile file may raise anything
        raise MotionFileError(f"{path.name}: {_what_it_is(head, error)}") from error


def _what_it_is(head: bytes, error: Exception) -> str:
    if not head:
        return "the file is empty. Download it again."
    if head.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the weights. Download the file itself (about 1.7 GB)."
    if head.lstrip().startswith(b"<"):
        return "a web page, not the weights. Download the file itself, not its page."
    reason = " ".join(str(error).split())[:_REASON_LENGTH]
    return f"not a complete weights file ({reason}). Download it again."


def _read_pickle(path: Path, zipped: bool) -> Any:
    if zipped and _is_torchscript(path):
        raise MotionFileError(f"{path.name}: a TorchScript program, not weights. It is not run.")
    # Not `torch.load`: hosts replace that name (the WebUI by one that refuses files of current torch).
    return torch.serialization.load(
        str(path), map_location="cpu", pickle_module=_tensors_only, weights_only=False, mmap=zipped
    )


def _is_torchscript(path: Path) -> bool:
    # Torch's own reader: another one could be shown another directory than the one that torch goes by.
    with path.open("rb") as file:
        return _TORCHSCRIPT_MEMBER in torch._C.PyTorchFileReader(file).get_all_records()


def _tensors_of(payload: Any) -> dict[str, Tensor]:
    for _ in range(len(_WRAPPERS) + 1):  # no more often than that: a hostile payload may hold itself
        if not isinstance(payload, Mapping):
            break
        inner = next((payload[key] for key in _WRAPPERS if isinstance(payload.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value.detach() for key, value in payload.items() if isinstance(value, Tensor)}
        payload = inner
    return {}


class _Inert:
    """Stands for an object of an unknown class: takes whatever the pickle does to it and does nothing."""

    def __init__(self, *_args: object, **_kwargs: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass

    def __setitem__(self, key: object, value: object) -> None:
        pass

    def append(self, item: object) -> None:
        pass


class _Allowed:
    """A function that a pickle may call but not alter: what it sets as state would land on the function itself."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)

    def __setstate__(self, state: object) -> None:
        pass


_ALLOWED = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch", "Size"): torch.Size,
    ("torch._utils", "_rebuild_tensor_v2"): _Allowed(torch._utils._rebuild_tensor_v2),
    ("torch._utils", "_rebuild_parameter"): _Allowed(torch._utils._rebuild_parameter),
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
