"""Files that steer a clip beside or as its motion module: SparseCtrl, PIA, AnimateLCM-I2V and CameraCtrl.

`inspect` names them, and `convert` writes each with the names of its official file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import torch
from torch import Tensor

from .camera_ctrl.load import is_camera_ctrl, read_camera_ctrl
from .errors import MotionFileError
from .files.detect import DetectedModule, detect_motion_module
from .files.diffusers_format import MotionSource, find_source
from .files.key_formats import TABLE, without_prefixes
from .files.load import read_checked
from .files.weights import FileHeader, read_header
from .image_encoder.header import PREFIX, check_image_encoder, encoder_keys
from .image_input import image_input_key
from .kinds import I2V, OF_IMAGES, PIA
from .sparse_ctrl.load import is_sparse_ctrl, read_sparse_ctrl
from .temporal_transformer import positional_table

CAMERA_CTRL = "cameractrl"
SPARSE_CTRL = "sparsectrl"  # with -rgb or -scribble behind it
_QUERY = "to_q.weight"


@dataclass(frozen=True)
class GuideFile:
    """A complete file that steers a clip.

    Attributes:
        name: for messages.
        path: the file with the weights.
        kind: ``"sparsectrl-rgb"``, ``"sparsectrl-scribble"``, ``"pia"``, ``"i2v"`` or ``"cameractrl"``.
        format: spelling of its keys.
        widths: channels at each resolution of the UNet, the finest first.
        trained_length: frames of its positional tables.
        weights: key in the file by official name, without positional tables.
        has_tables: whether its official file has positional tables.
        header: of the file.
    """

    name: str
    path: Path
    kind: str
    format: str
    widths: tuple[int, ...]
    trained_length: int
    weights: Mapping[str, str]
    has_tables: bool
    header: FileHeader

    @property
    def parameters_by_dtype(self) -> dict[str, int]:
        """Number of weights per dtype, without positional tables."""
        counts: dict[str, int] = {}
        for key in self.weights.values():
            shape, dtype = self.header.tensors[key]
            counts[dtype] = counts.get(dtype, 0) + prod(shape)
        return counts

    def official_tensors(self) -> dict[str, Tensor]:
        """Copies of the weights by their official names, with computed positional tables.

        Raises:
            MotionFileError: the file is damaged.
        """
        tensors = read_checked(self.path, self.header, set(self.weights.values()))
        official = {
            name: tensors[key].clone(memory_format=torch.contiguous_format) for name, key in self.weights.items()
        }
        if self.has_tables:
            for name in [name for name in official if _has_positions(name)]:
                table = positional_table(self.trained_length, official[name].shape[0])
                official[f"{name.removesuffix(f'.{_QUERY}')}{TABLE}"] = table
        return official


def find_guide(path: str | Path) -> GuideFile | None:
    """The description of a file; None for other files, such as motion modules. Only the header is read.

    Raises:
        MotionFileError: the file cannot be read, or is such a file that is not complete.
    """
    source = find_source(Path(path))
    header = read_header(source.weights)
    for belongs, read in _READERS:
        if belongs(header):
            return read(source, header)
    return None


def _sparse_ctrl(source: MotionSource, _header: FileHeader) -> GuideFile:
    file = read_sparse_ctrl(source.weights)
    layout, kind = file.layout, f"{SPARSE_CTRL}-{file.layout.kind}"
    length = layout.trained_length
    return GuideFile(file.name, file.path, kind, file.spelling, layout.widths, length, file.weights, True, file.header)


def _camera_ctrl(source: MotionSource, _header: FileHeader) -> GuideFile:
    file = read_camera_ctrl(source.weights)
    layout = file.layout
    return GuideFile(
        *(file.name, file.path, CAMERA_CTRL, file.spelling, layout.widths, layout.trained_length),
        *(file.weights, True, file.header),
    )


def _pia(source: MotionSource, header: FileHeader) -> GuideFile:
    key = image_input_key(header)
    assert key is not None
    plain = {without_prefixes(each): each for each in header.tensors}
    convolution = {"conv_in.weight": key} | {name: plain[name] for name in ["conv_in.bias"] if name in plain}
    return _with_module(source, header, PIA.name, convolution, has_tables=True)


def _i2v(source: MotionSource, header: FileHeader) -> GuideFile:
    check_image_encoder(source.name, header)
    encoder = {f"{PREFIX}{name}": key for name, key in encoder_keys(header).items()}
    return _with_module(source, header, I2V.name, encoder, has_tables=False)


def _with_module(
    source: MotionSource, header: FileHeader, kind: str, further: Mapping[str, str], *, has_tables: bool
) -> GuideFile:
    found: DetectedModule = detect_motion_module(source, header, kind)
    widths = tuple(sites[0] for sites in found.layout.down)
    length, weights = found.layout.trained_length, {**found.weights, **further}
    return GuideFile(source.name, source.weights, kind, found.format, widths, length, weights, has_tables, header)


def _has_positions(name: str) -> bool:
    return name.endswith(f".{_QUERY}") and ".attention_blocks." in name


_READERS: tuple[tuple[Callable[[FileHeader], bool], Callable[[MotionSource, FileHeader], GuideFile]], ...] = (
    (lambda header: is_sparse_ctrl(header.tensors), _sparse_ctrl),
    (lambda header: is_camera_ctrl(header.tensors), _camera_ctrl),
    (lambda header: bool(encoder_keys(header)), _i2v),
    (lambda header: image_input_key(header) is not None, _pia),
)


def check_official(guide: GuideFile, to: str, kind: str | None) -> None:
    """Check that a file can be written in a format.

    Raises:
        MotionFileError: only motion modules have that format, or the file is of another kind.
    """
    if to != "official" or (kind is not None and kind not in OF_IMAGES):
        what = "a MotionAdapter" if to != "official" else f"a motion module of kind {kind}"
        raise MotionFileError(
            f"{guide.name} is a file of kind {guide.kind}, which cannot be written as {what}. Write it as official, "
            "without a kind.",
            code="AD-QC7",
        )
