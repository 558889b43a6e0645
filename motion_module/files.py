"""Read a safetensors file or a pickle: only what it says about its tensors, or the tensors themselves.

Files come from strangers. Safetensors cannot carry code. A pickle goes through an unpickler that knows tensors only
(`unpickling`). Tensors may still be mapped from the file: the caller copies those it keeps.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import torch
from torch import Tensor

from .diagnosis import HEAD_LENGTH, LEGACY_PICKLE_MAGIC, ZIP_MAGIC, what_it_is
from .errors import MotionFileError
from .unpickling import HeaderUnpickler, TensorHeader, dtype_name, read_legacy_headers, tensors_only

MOTION_FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

_WRAPPERS = ("state_dict", "module", "model", "controlnet")  # training scripts nest the weights under one of these
_TORCHSCRIPT_MEMBER = "constants.pkl"
_PICKLE_MEMBER = "data.pkl"

_SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}

_Leaf = TypeVar("_Leaf", Tensor, TensorHeader)


@dataclass(frozen=True)
class FileHeader:
    """What a weights file says about itself.

    Attributes:
        container: ``safetensors`` or ``pickle``.
        tensors: by name, taken out of the dictionaries that they may be nested in.
        metadata: what a safetensors file holds beside its tensors.
    """

    container: str
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> FileHeader:
    """Names, shapes and dtypes; no tensor is read, however large the file is.

    Raises:
        MotionFileError: the file is missing, empty, cut off, or not a weights file at all.
    """
    return _reading(path, _safetensors_header, _pickle_header)


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Tensors of a file by name, on the CPU, taken out of the dictionaries that they may be nested in.

    Args:
        path: the file.
        names: which ones; all by default.

    Raises:
        MotionFileError: the file is missing, empty, cut off, or not a weights file at all, or lacks one of the names.
    """
    wanted = None if names is None else list(names)
    return _reading(
        path,
        lambda path: _safetensors_tensors(path, wanted),
        lambda path, zipped: _chosen(_leaves(_load_pickle(path, zipped), Tensor), wanted),
    )


def describe(tensor: Tensor) -> TensorHeader:
    """Shape and dtype of a tensor."""
    return TensorHeader(tuple(tensor.shape), dtype_name(tensor.dtype))


_Result = TypeVar("_Result")


def _reading(
    path: Path, from_safetensors: Callable[[Path], _Result], from_pickle: Callable[[Path, bool], _Result]
) -> _Result:
    try:
        with path.open("rb") as file:
            head = file.read(HEAD_LENGTH)
    except OSError as error:
        raise MotionFileError(
            f"{path.name}: cannot be read ({error.strerror}). Check the path {path}.", what="not readable"
        ) from error
    try:
        if head.startswith((ZIP_MAGIC, LEGACY_PICKLE_MAGIC)):
            return from_pickle(path, head.startswith(ZIP_MAGIC))
        return from_safetensors(path)
    except MotionFileError:
        raise
    except Exception as error:  # a broken or hostile file may raise anything
        what, told = what_it_is(path, head, error)
        raise MotionFileError(f"{path.name}: {told}", what=what) from error


def _safetensors_header(path: Path) -> FileHeader:
    with safetensors.safe_open(path, framework="pt") as file:
        tensors = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no dictionary
        headers = {
            name: TensorHeader(tuple(tensor.get_shape()), _SAFETENSORS_DTYPES.get(kind := tensor.get_dtype(), kind))
            for name, tensor in tensors.items()
        }
        return FileHeader("safetensors", headers, dict(file.metadata() or {}))


def _safetensors_tensors(path: Path, names: list[str] | None) -> dict[str, Tensor]:
    with safetensors.safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in (file.keys() if names is None else names)}


def _pickle_header(path: Path, zipped: bool) -> FileHeader:
    with path.open("rb") as file:
        if zipped:
            payload = HeaderUnpickler(io.BytesIO(_archive(path, file).get_record(_PICKLE_MEMBER))).load()
        else:
            payload = read_legacy_headers(file)
    return FileHeader("pickle", _leaves(payload, TensorHeader))


def _load_pickle(path: Path, zipped: bool) -> Any:
    if zipped:
        with path.open("rb") as file:
            _archive(path, file)
    # Not `torch.load`: hosts replace that name (the WebUI by one that refuses files of current torch).
    return torch.serialization.load(
        str(path), map_location="cpu", pickle_module=tensors_only, weights_only=False, mmap=zipped
    )


def _archive(path: Path, file: Any) -> Any:
    # Torch's own reader: another one could be shown another directory than the one that torch goes by.
    archive = torch._C.PyTorchFileReader(file)
    if _TORCHSCRIPT_MEMBER in archive.get_all_records():
        raise MotionFileError(
            f"{path.name}: a TorchScript program, not weights. It is not run.", what="a TorchScript program"
        )
    return archive


def _leaves(payload: Any, leaf: type[_Leaf]) -> dict[str, _Leaf]:
    """Tensors or their headers by name, under whatever wrappers they are."""
    for _ in range(len(_WRAPPERS) + 1):  # no more often than that: a hostile payload may hold itself
        if not isinstance(payload, Mapping):
            return {}
        inner = next((payload[key] for key in _WRAPPERS if isinstance(payload.get(key), Mapping)), None)
        if inner is None:
            return _own_leaves(payload, leaf) or _leaves_one_down(payload, leaf)
        payload = inner
    return {}


def _own_leaves(payload: Mapping[Any, Any], leaf: type[_Leaf]) -> dict[str, _Leaf]:
    return {str(key): _detached(value) for key, value in payload.items() if isinstance(value, leaf)}


def _leaves_one_down(payload: Mapping[Any, Any], leaf: type[_Leaf]) -> dict[str, _Leaf]:
    inner = {key: value for key, value in payload.items() if isinstance(value, Mapping)}
    return {
        f"{key}.{name}": value for key, mapping in inner.items() for name, value in _own_leaves(mapping, leaf).items()
    }


def _detached(value: _Leaf) -> _Leaf:
    return value.detach() if isinstance(value, Tensor) else value


def _chosen(tensors: dict[str, Tensor], names: list[str] | None) -> dict[str, Tensor]:
    return tensors if names is None else {name: tensors[name] for name in names}
