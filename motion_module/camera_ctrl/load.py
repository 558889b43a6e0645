"""Recognise a CameraCtrl model by the header of its file, check that it is complete, and load it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from motion_module.completeness import in_words, problems_of
from motion_module.errors import MotionFileError
from motion_module.files.diffusers_format import find_source
from motion_module.files.key_formats import TABLE, without_prefixes
from motion_module.files.load import read_checked, usable
from motion_module.files.other_models import identify_other
from motion_module.files.safe_unpickler import TensorHeader
from motion_module.files.weights import FileHeader, read_header
from motion_module.kinds import MAX_LENGTH
from motion_module.temporal_transformer import NORM_GROUPS

from .network import LEVELS, CameraCtrl, CameraLayout, merge_name

LENGTH = 16  # of the official file's positional tables
OFFICIAL, FLAT = "official", "pruned"  # the file of the training, and its weights without the dictionaries
_DICTIONARIES = ("pose_encoder_state_dict.", "attention_processor_state_dict.")
_MERGE = re.compile(r"((?:down|up)_blocks\.\d+\.motion_modules\.\d+)\..*\bqkv_merge\.(weight|bias)", re.DOTALL)
_ENCODER = "encoder_conv_in.weight"
_WIDTH = "encoder_down_conv_blocks.{}.0.block1.weight"


@dataclass(frozen=True)
class CameraFile:
    """A CameraCtrl model by its header.

    Attributes:
        name: for messages.
        path: the file with the weights.
        layout: its widths and trained length.
        spelling: `OFFICIAL` or `FLAT`.
        weights: key in the file by official name, without positional tables.
        header: of the file.
    """

    name: str
    path: Path
    layout: CameraLayout
    spelling: str
    weights: Mapping[str, str]
    header: FileHeader


def plain_name(key: str) -> str:
    """The official name of a key: without the official file's dictionaries and prefixes of training scripts."""
    for dictionary in _DICTIONARIES:
        key = key.removeprefix(dictionary)
    key = without_prefixes(key)
    match = _MERGE.fullmatch(key)
    return merge_name(match[1], match[2]) if match else key


def is_camera_ctrl(tensors: Mapping[str, TensorHeader]) -> bool:
    """Whether weights are those of a CameraCtrl model, or of one of its two parts."""
    names = list(map(plain_name, tensors))
    return _ENCODER in names or any(map(_MERGE.fullmatch, names))


def read_camera_ctrl(path: str | Path) -> CameraFile:
    """Recognise a CameraCtrl model and check that it is complete. Only the header is read.

    Raises:
        MotionFileError: the file cannot be read, is another model, or lacks weights.
    """
    source = find_source(Path(path))
    header = read_header(source.weights)
    if not is_camera_ctrl(header.tensors):
        known = identify_other({without_prefixes(key): tensor for key, tensor in header.tensors.items()})
        what = known.what if known else "a file of another kind"
        raise MotionFileError(
            f"{source.name} is {what}, not CameraCtrl. Choose one such as CameraCtrl_pruned.safetensors.",
            what=what,
            code="AD-Q75",
        )
    names: dict[str, str] = {}
    for key in header.tensors:
        name = plain_name(key)
        if names.setdefault(name, key) != key:
            raise _incomplete(source.name, [f"{name} is stored twice, as {names[name]} and {key}"])
    tables = {name: header.tensors[names.pop(name)] for name in [*names] if name.endswith(TABLE)}
    tensors = {name: header.tensors[key] for name, key in names.items()}
    layout = _layout_of(source.name, tensors, tables)
    if problems := problems_of(tensors, CameraCtrl.expected_shapes(layout)):
        raise _incomplete(source.name, problems)
    is_official = any(key.startswith(_DICTIONARIES) for key in header.tensors)
    return CameraFile(source.name, source.weights, layout, OFFICIAL if is_official else FLAT, names, header)


def load_camera_ctrl(path: str | Path) -> CameraCtrl:
    """Load a CameraCtrl model: the official checkpoint, or its weights alone as a pickle or safetensors.

    Weights are loaded to the CPU in the file's dtype. Positional tables are computed.

    Raises:
        MotionFileError: the file cannot be read, is another model, or lacks weights.
    """
    file = read_camera_ctrl(path)
    tensors = read_checked(file.path, file.header, file.weights.values())
    state = {name: usable(file.path, key, tensors.pop(key)) for name, key in file.weights.items()}
    return CameraCtrl.from_state_dict(state, file.layout, file.name)


def _layout_of(name: str, tensors: Mapping[str, TensorHeader], tables: Mapping[str, TensorHeader]) -> CameraLayout:
    has_encoder, has_merges = _ENCODER in tensors, any(map(_MERGE.fullmatch, tensors))
    if not (has_encoder and has_merges):
        what = "the encoder of the camera (encoder_conv_in)" if has_merges else "the merges (qkv_merge)"
        raise _incomplete(name, [f"{what} is missing" if has_merges else f"{what} are missing"])
    widths = []
    for level in range(LEVELS):
        key = _WIDTH.format(level)
        shape = tensors[key].shape if key in tensors else ()
        if not shape:
            raise _incomplete(name, [f"{key} is missing"])
        if not shape[0] or shape[0] % NORM_GROUPS:
            raise _incomplete(name, [f"a width of {shape[0]} is not a multiple of {NORM_GROUPS}"])
        widths.append(shape[0])
    lengths = {table.shape[1] if len(table.shape) == 3 else 0 for table in tables.values()} or {LENGTH}
    length = lengths.pop()
    if lengths or not 0 < length <= MAX_LENGTH:
        raise _incomplete(name, [f"its positional tables are not for the same 1 to {MAX_LENGTH} frames"])
    return CameraLayout(tuple(widths), length)


def _incomplete(name: str, problems: list[str]) -> MotionFileError:
    return MotionFileError(
        f"{name} is not a complete CameraCtrl model: {in_words(problems)}. Download it again.",
        what="an incomplete CameraCtrl model",
        code="AD-Q76",
    )
