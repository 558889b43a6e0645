"""Recognise a SparseCtrl encoder by the header of its file, check that it is complete, and load it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from motion_module.completeness import in_words, problems_of
from motion_module.errors import MotionFileError
from motion_module.files.diffusers_format import MotionSource, find_source
from motion_module.files.key_formats import BLOCK_TABLE, TABLE, is_motion_weight
from motion_module.files.load import read_checked, usable
from motion_module.files.other_models import identify_other
from motion_module.files.safe_unpickler import TensorHeader
from motion_module.files.weights import FileHeader, read_header
from motion_module.kinds import MAX_LENGTH
from motion_module.temporal_transformer import NORM_GROUPS

from .names import official, plain_name, reads_images, spelling_of
from .network import LEVELS, RGB, SCRIBBLE, EncoderLayout, SparseCtrl

LENGTH = 32  # of the official files' positional tables, which files without tables were trained with
_OUTPUT = "controlnet_down_blocks.0.weight"
_WIDTH = "down_blocks.{}.resnets.0.conv1.weight"
_CONTEXT = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@dataclass(frozen=True)
class EncoderFile:
    """A SparseCtrl encoder by its header.

    Attributes:
        name: for messages.
        path: the file with the weights.
        layout: its kind, widths and trained length.
        spelling: of its keys, see `names`.
        weights: key in the file by official name, without positional tables.
        header: of the file.
    """

    name: str
    path: Path
    layout: EncoderLayout
    spelling: str
    weights: Mapping[str, str]
    header: FileHeader

    @property
    def parameters(self) -> int:
        """The number of its weights."""
        return sum(math.prod(self.header.tensors[key].shape) for key in self.weights.values())


def is_sparse_ctrl(tensors: Mapping[str, TensorHeader]) -> bool:
    """Whether weights are those of a SparseCtrl encoder, in any spelling."""
    names = [plain_name(name) for name in tensors]
    return any(map(is_motion_weight, names)) and _OUTPUT in map(official, names)


def read_sparse_ctrl(path: str | Path) -> EncoderFile:
    """Recognise a SparseCtrl encoder and check that it is complete. Only the header is read.

    Raises:
        MotionFileError: the file cannot be read, is another model, or lacks weights.
    """
    source = find_source(Path(path))
    header = read_header(source.weights)
    if not is_sparse_ctrl(header.tensors):
        raise _another_model(source, header)
    plain = {key: plain_name(key) for key in header.tensors}
    names: dict[str, str] = {}
    for key, short in plain.items():
        name = official(short)
        if names.setdefault(name, key) != key:
            raise _incomplete(source.name, [f"{name} is stored twice, as {names[name]} and {key}"])
    tables = {name: header.tensors[names.pop(name)] for name in [*names] if name.endswith((TABLE, BLOCK_TABLE))}
    tensors = {name: header.tensors[key] for name, key in names.items()}
    layout = _layout_of(source.name, tensors, tables)
    _check_complete(source.name, tensors, layout)
    return EncoderFile(source.name, source.weights, layout, spelling_of(plain.values()), names, header)


def load_sparse_ctrl(path: str | Path) -> SparseCtrl:
    """Load a SparseCtrl encoder for images or for scribbles.

    Supported are safetensors and pickled checkpoints in the spellings of the official release, of diffusers and of
    sd-webui-controlnet. Weights are loaded to the CPU in the file's dtype. Positional tables are computed.

    Args:
        path: the file, or diffusers' folder.

    Raises:
        MotionFileError: the file cannot be read, is another model, or lacks weights.
    """
    file = read_sparse_ctrl(path)
    tensors = read_checked(file.path, file.header, file.weights.values())
    state = {name: usable(file.path, key, tensors.pop(key)) for name, key in file.weights.items()}
    return SparseCtrl.from_state_dict(state, file.layout, file.name)


def _another_model(source: MotionSource, header: FileHeader) -> MotionFileError:
    known = identify_other({plain_name(key): tensor for key, tensor in header.tensors.items()})
    what = known.what if known else "a file of another kind"
    if known is None and any(map(is_motion_weight, header.tensors)):
        what = "a motion module"
    return MotionFileError(
        f"{source.name} is {what}, not a SparseCtrl encoder. Choose one such as v3_sd15_sparsectrl_rgb.ckpt.",
        what=what,
        code="AD-Q10",
    )


def _layout_of(name: str, tensors: Mapping[str, TensorHeader], tables: Mapping[str, TensorHeader]) -> EncoderLayout:
    images = reads_images(tensors)
    if images is None:
        raise _incomplete(name, ["controlnet_cond_embedding is missing"])
    widths = tuple(_side(name, tensors, _WIDTH.format(level), 0) for level in range(LEVELS))
    if wrong := [width for width in widths if not width or width % NORM_GROUPS]:
        raise _incomplete(name, [f"a width of {wrong[0]} is not a multiple of {NORM_GROUPS}"])
    lengths = {table.shape[1] if len(table.shape) == 3 else 0 for table in tables.values()} or {LENGTH}
    length = lengths.pop()
    if lengths or not 0 < length <= MAX_LENGTH:
        raise _incomplete(name, [f"its positional tables are not for the same 1 to {MAX_LENGTH} frames"])
    return EncoderLayout(RGB if images else SCRIBBLE, widths, _side(name, tensors, _CONTEXT, 1), length)


def _side(name: str, tensors: Mapping[str, TensorHeader], key: str, side: int) -> int:
    if key not in tensors or len(tensors[key].shape) <= side:
        raise _incomplete(name, [f"{key} is missing"])
    return tensors[key].shape[side]


def _check_complete(name: str, tensors: Mapping[str, TensorHeader], layout: EncoderLayout) -> None:
    if problems := problems_of(tensors, SparseCtrl.expected_shapes(layout)):
        raise _incomplete(name, problems)


def _incomplete(name: str, problems: list[str]) -> MotionFileError:
    return MotionFileError(
        f"{name} is not a complete SparseCtrl encoder: {in_words(problems)}. Download it again.",
        what="an incomplete SparseCtrl encoder",
        code="AD-Q01",
    )
