"""Read safetensors files and pickles: their headers only, or their tensors.

Files are untrusted. Safetensors cannot carry code; a pickle goes through an unpickler that knows tensors only
(`safe_unpickler`), and its claims are checked against the file's size before torch allocates anything. Tensors are read
into memory: a file that is replaced while it is memory-mapped would kill the process.
"""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TypeVar

import safetensors
import torch
from torch import Tensor

from motion_module.errors import MotionFileError
from motion_module.limits import parse_json, read_limited

from .file_type import HEAD_LENGTH, LEGACY_PICKLE_MAGIC, ZIP_MAGIC, describe_unreadable_file
from .pickle_vm import MAX_PICKLE_BYTES, OutsizedError
from .safe_unpickler import HeaderUnpickler, TensorHeader, claimed_bytes, dtype_name, read_legacy_headers, tensors_only

MOTION_FILE_SUFFIXES = (".safetensors", ".ckpt", ".pt", ".pth", ".bin")

_WRAPPERS = ("state_dict", "module", "model", "controlnet")  # training scripts nest the weights under one of these
_TORCHSCRIPT_MEMBER = "constants.pkl"
_PICKLE_MEMBER = "data.pkl"
# Far beyond real weights files, see `pickle_vm`.
_MAX_TENSORS = 50_000
_MAX_NAME_LENGTH = 1000
_MAX_SHARING = 4  # how many times the file's size its tensors may claim: some share their bytes

_LENGTH_BYTES = 8  # a safetensors file begins with the length of its header

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
    """Description of a weights file.

    Attributes:
        container: ``safetensors`` or ``pickle``.
        tensors: shape and dtype by key, without the dictionaries that wrap them.
        metadata: metadata of a safetensors file.
    """

    container: str
    tensors: Mapping[str, TensorHeader]
    metadata: Mapping[str, str] = field(default_factory=dict)


def read_header(path: Path) -> FileHeader:
    """Read keys, shapes and dtypes. No tensor is read, however large the file.

    Raises:
        MotionFileError: the file is missing, empty, truncated, or not a weights file.
    """
    return _reading(path, _safetensors_header, _pickle_header)


def read_tensors(path: Path, names: Iterable[str] | None = None) -> dict[str, Tensor]:
    """Read tensors to the CPU, by key, without the dictionaries that wrap them.

    Args:
        path: the file.
        names: keys to read; None for all.

    Raises:
        MotionFileError: the file is missing, empty, truncated, not a weights file, or lacks a key.
    """
    wanted = None if names is None else list(names)
    return _reading(
        path,
        lambda path: _safetensors_tensors(path, wanted),
        lambda path, zipped: _select(_leaves(_load_pickle(path, zipped), Tensor), wanted),
    )


def read_payload(path: Path) -> Any:
    """Everything that ``torch.save`` wrote, on the CPU: tensors in plain values, such as the state of a program.

    Raises:
        MotionFileError: the file is missing, empty, truncated, or not such a file, or claims more than it holds.
    """
    return _reading(path, _no_pickle, _load_pickle)


def describe(tensor: Tensor) -> TensorHeader:
    """Shape and dtype of a tensor."""
    return TensorHeader(tuple(tensor.shape), dtype_name(tensor.dtype))


def are_weights(tensor: Tensor) -> bool:
    """Whether a tensor has real and finite numbers only. The sum of any others is neither."""
    if not tensor.is_floating_point():
        return False
    summable = tensor if tensor.element_size() > 1 else tensor.float()  # float8 has no sum
    return bool(summable.sum(dtype=torch.float32).isfinite())


_Result = TypeVar("_Result")


def _reading(
    path: Path, from_safetensors: Callable[[Path], _Result], from_pickle: Callable[[Path, bool], _Result]
) -> _Result:
    try:
        head = read_limited(path, HEAD_LENGTH)
    except (OSError, ValueError) as error:  # a path with a NUL is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise MotionFileError(
            f"{path.name} cannot be read ({reason}). Check the path {path}.", what="not readable", code="AD-F28"
        ) from error
    try:
        if head.startswith((ZIP_MAGIC, LEGACY_PICKLE_MAGIC)):
            return from_pickle(path, head.startswith(ZIP_MAGIC))
        return from_safetensors(path)
    except MotionFileError:
        raise
    except OutsizedError as error:
        raise MotionFileError(
            f"{path.name} is damaged or malicious: {error}. Do not use it.",
            what="a damaged or malicious file",
            code="AD-F29",
        ) from error
    except Exception as error:  # a damaged or malicious file can raise anything
        unreadable = describe_unreadable_file(path, head, error)
        raise MotionFileError(
            f"{path.name} {unreadable.problem}", what=unreadable.what, code=unreadable.code
        ) from error


def _safetensors_header(path: Path) -> FileHeader:
    with safetensors.safe_open(path, framework="pt") as file:
        names = list(file.keys())
        if len(names) > _MAX_TENSORS:
            raise OutsizedError("it has too many tensors")
        tensors = {name: file.get_slice(name) for name in names}
        headers = {
            name: TensorHeader(tuple(tensor.get_shape()), _SAFETENSORS_DTYPES.get(kind := tensor.get_dtype(), kind))
            for name, tensor in tensors.items()
        }
        return FileHeader("safetensors", headers, dict(file.metadata() or {}))


def _safetensors_tensors(path: Path, names: list[str] | None) -> dict[str, Tensor]:
    headers = _safetensors_header(path).tensors  # the library checks all offsets
    with path.open("rb") as file:
        length = int.from_bytes(file.read(_LENGTH_BYTES), "little")
        entries = parse_json(file.read(length))
        begin = file.tell()
        return {
            name: _stored_tensor(file, begin, entries[name], headers[name])
            for name in (headers if names is None else names)
        }


def _stored_tensor(file: BinaryIO, begin: int, entry: Any, header: TensorHeader) -> Tensor:
    start, end = entry["data_offsets"]
    content = bytearray(end - start)
    file.seek(begin + start)
    if file.readinto(content) != len(content):  # type: ignore[attr-defined]
        raise EOFError("the file became shorter while it was read")
    dtype = getattr(torch, header.dtype)
    values = torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
    return values.reshape(header.shape)


def _no_pickle(_path: Path) -> NoReturn:
    raise ValueError("not a pickle")


def _pickle_header(path: Path, zipped: bool) -> FileHeader:
    with path.open("rb") as file:
        if zipped:
            unpickler = HeaderUnpickler(io.BytesIO(_archive(path, file).get_record(_PICKLE_MEMBER)))
            payload = unpickler.load()
            if sum(unpickler.storage_bytes.values()) > path.stat().st_size:
                raise EOFError("the file is smaller than its tensors")
        else:
            _reject_tar(path)
            payload = read_legacy_headers(file)
    tensors = _leaves(payload, TensorHeader)
    if claimed_bytes(tensors.values()) > _MAX_SHARING * path.stat().st_size:
        raise OutsizedError("it claims more weights than fit into it")
    return FileHeader("pickle", tensors)


def _load_pickle(path: Path, zipped: bool) -> Any:
    _pickle_header(path, zipped)  # checks sizes, which torch would trust
    # Not `torch.load`: hosts replace it (the WebUI's version rejects files of current torch).
    return torch.serialization.load(str(path), map_location="cpu", pickle_module=tensors_only, weights_only=False)


def _reject_tar(path: Path) -> None:
    # torch takes a tar archive for one of its files of 2016, whatever its first bytes are, and unpacks it.
    if tarfile.is_tarfile(path):
        raise MotionFileError(
            f"{path.name} is a tar archive, not a weights file. Unpack it and choose the weights file inside.",
            what="a tar archive",
            code="AD-F30",
        )


def _archive(path: Path, file: Any) -> Any:
    _reject_compressed(path)
    # torch's own reader: a crafted archive can show another directory to any other reader.
    archive = torch._C.PyTorchFileReader(file)
    if _TORCHSCRIPT_MEMBER in archive.get_all_records():
        raise _torchscript(path)
    if _record_size(archive, _PICKLE_MEMBER) > MAX_PICKLE_BYTES:
        raise OutsizedError("its pickle is too large")
    return archive


def _reject_compressed(path: Path) -> None:
    """Reject compressed members: torch stores tensors uncompressed to map them, and compression may hide a zip bomb."""
    with zipfile.ZipFile(path) as archive:
        if all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist()):
            return
        members = {name.rpartition("/")[2] for name in archive.namelist()}
    if _TORCHSCRIPT_MEMBER in members:
        raise _torchscript(path)
    if _PICKLE_MEMBER not in members:
        raise ValueError("an archive of something else")
    raise MotionFileError(
        f"{path.name} is a compressed archive of weights. Download the original file from its publisher.",
        what="compressed weights",
        code="AD-F31",
    )


def _torchscript(path: Path) -> MotionFileError:
    return MotionFileError(
        f"{path.name} is a TorchScript program, which is not executed. Download the weights as safetensors.",
        what="a TorchScript program",
        code="AD-F32",
    )


def _record_size(archive: Any, name: str) -> int:
    """Size of an archive member in bytes; 0 if torch does not report it (torch 2.1)."""
    size = getattr(archive, "get_record_size", None)
    return int(size(name)) if size else 0


def _leaves(payload: Any, leaf: type[_Leaf]) -> dict[str, _Leaf]:
    """Tensors or their headers by key, without the dictionaries that wrap them."""
    for _ in range(len(_WRAPPERS) + 1):  # bounded, because a crafted payload may contain itself
        if not isinstance(payload, Mapping):
            return {}
        inner = next((payload[key] for key in _WRAPPERS if isinstance(payload.get(key), Mapping)), None)
        if inner is None:
            return _direct_leaves(payload, leaf) or _nested_leaves(payload, leaf)
        payload = inner
    return {}


def _direct_leaves(payload: Mapping[Any, Any], leaf: type[_Leaf]) -> dict[str, _Leaf]:
    return _collect((str(key), value) for key, value in payload.items() if isinstance(value, leaf))


def _nested_leaves(payload: Mapping[Any, Any], leaf: type[_Leaf]) -> dict[str, _Leaf]:
    inner = {key: value for key, value in payload.items() if isinstance(value, Mapping)}
    return _collect(
        (f"{key}.{name}", value)
        for key, mapping in inner.items()
        for name, value in mapping.items()
        if isinstance(value, leaf)
    )


def _collect(named: Iterator[tuple[str, _Leaf]]) -> dict[str, _Leaf]:
    """Values by key. Too many of them mean that one dictionary was stored under many keys."""
    leaves: dict[str, _Leaf] = {}
    for name, value in islice(named, _MAX_TENSORS + 1):
        if len(name) > _MAX_NAME_LENGTH:
            raise OutsizedError("one of its tensors has too long a name")
        leaves[name] = _detached(value)
    if len(leaves) > _MAX_TENSORS:
        raise OutsizedError("it has too many tensors")
    return leaves


def _detached(value: _Leaf) -> _Leaf:
    return value.detach() if isinstance(value, Tensor) else value


def _select(tensors: dict[str, Tensor], names: list[str] | None) -> dict[str, Tensor]:
    return tensors if names is None else {name: tensors[name] for name in names}
