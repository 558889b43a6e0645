"""Unpickle tensors, or only their headers, and nothing else.

A pickle is a program. These unpicklers resolve the few names that a state dict needs. Any other class becomes a stub,
because early official files hold configuration objects next to the weights.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable
from math import prod
from types import ModuleType
from typing import Any, BinaryIO, NamedTuple

import torch

from .pickle_vm import OutsizedError, PlainUnpickler, Stub, empty_dictionary

_MAX_DIMENSIONS = 16


class _Bytes(Stub):
    """Type of an untyped storage, which torch uses for newer dtypes; torch reads only ``dtype``."""

    dtype = torch.uint8


class _Allowed:
    """A function that a pickle may call. Hides the function's own attributes from the pickle."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        return self._function(*args)


def _rebuilders(names: tuple[str, ...]) -> dict[tuple[str, str], Any]:
    found = {name: getattr(torch._utils, name, None) for name in names}  # some exist in some versions of torch only
    return {("torch._utils", name): _Allowed(function) for name, function in found.items() if function is not None}


def _size(lengths: Any = ()) -> torch.Size:
    if len(lengths) > _MAX_DIMENSIONS:
        raise OutsizedError("one of its tensors has too many dimensions")
    size = torch.Size(lengths)
    if any(length < 0 for length in size):
        raise pickle.UnpicklingError("a tensor with a negative length")
    return size


# Not `getattr(torch, name)`: for some names that imports half of torch.
_DTYPES = {("torch", name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_COMMON = {
    **_DTYPES,
    ("collections", "OrderedDict"): _Allowed(empty_dictionary),
    ("torch", "Size"): _Allowed(_size),
}
_TENSORS = {
    **_COMMON,
    **_rebuilders(("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")),
    ("torch.storage", "UntypedStorage"): _Bytes,
}


class _TensorsOnlyUnpickler(PlainUnpickler):
    """Resolves tensors. torch resolves storages before it asks this class."""

    def find_class(self, module: str, name: str) -> Any:
        return _TENSORS.get((module, name), Stub)


def _load(file: Any, **kwargs: Any) -> Any:
    return _TensorsOnlyUnpickler(file, **kwargs).load()


tensors_only = ModuleType("tensors_only_pickle")  # torch expects a module like `pickle`
tensors_only.__dict__.update(Unpickler=_TensorsOnlyUnpickler, load=_load, UnpicklingError=pickle.UnpicklingError)


class TensorHeader(NamedTuple):
    """Shape of a tensor, and its dtype by torch's name, such as ``float16``."""

    shape: tuple[int, ...]
    dtype: str


_STORAGE_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}


_ITEM_SIZES = {dtype_name: dtype.itemsize for (_, dtype_name), dtype in _DTYPES.items()}


def claimed_bytes(headers: Iterable[TensorHeader]) -> int:
    """Memory that the tensors would occupy without sharing storages; a lower bound for unknown dtypes."""
    return sum(prod(shape) * _ITEM_SIZES.get(dtype, 1) for shape, dtype in headers)


def dtype_name(dtype: torch.dtype) -> str:
    """``float16`` for ``torch.float16``."""
    return str(dtype).removeprefix("torch.")


def _header(storage: Any, _offset: object, size: Any, *_rest: object) -> TensorHeader:
    dtype = dtype_name(storage) if isinstance(storage, torch.dtype) else "unknown"
    return TensorHeader(tuple(_size(size)), dtype)


def _typed_header(_storage: object, _offset: object, size: Any, *rest: Any) -> TensorHeader:
    return _header(rest[3], 0, size)  # after stride, requires_grad and hooks


def _same_header(tensor: Any, *_rest: object) -> Any:
    return tensor


_HEADERS = {
    **_COMMON,
    **{(module, name): dtype for name, dtype in _STORAGE_DTYPES.items() for module in ("torch", "torch.storage")},
    ("torch._utils", "_rebuild_tensor_v2"): _Allowed(_header),
    ("torch._utils", "_rebuild_tensor_v3"): _Allowed(_typed_header),
    ("torch._utils", "_rebuild_parameter"): _Allowed(_same_header),
}


class HeaderUnpickler(PlainUnpickler):
    """Builds a `TensorHeader` in place of each tensor, without reading the tensor's data.

    Attributes:
        storage_bytes: size in bytes of each storage, by its key in the pickle.
    """

    def __init__(self, file: Any) -> None:
        super().__init__(file)
        self.storage_bytes: dict[str, int] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return a harmless replacement for any name."""
        return _HEADERS.get((module, name), Stub)

    def persistent_load(self, pid: Any) -> Any:
        """Return the dtype of a storage."""
        if not isinstance(pid[1], torch.dtype):
            return Stub()
        self.storage_bytes[str(pid[2])] = int(pid[4]) * pid[1].itemsize
        return pid[1]


_LEGACY_PREAMBLE = 3  # magic number, protocol version, system information
_LEGACY_STORAGE_HEAD = 8  # bytes: the length in front of each storage


def read_legacy_headers(file: BinaryIO) -> Any:
    """The payload of a file written by torch before 1.6, with headers in place of tensors.

    Raises:
        EOFError: the file is truncated.
    """
    for _ in range(_LEGACY_PREAMBLE):
        HeaderUnpickler(file).load()
    unpickler = HeaderUnpickler(file)
    payload = unpickler.load()
    HeaderUnpickler(file).load()  # the order of the storages
    sizes = unpickler.storage_bytes.values()
    if file.tell() + sum(sizes) + _LEGACY_STORAGE_HEAD * len(sizes) > os.fstat(file.fileno()).st_size:
        raise EOFError("the file ends before its last tensor")
    return payload
