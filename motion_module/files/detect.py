"""Detect the motion module in a file from its header: key format, kind, layout, and the names of its weights.

No tensor is read here, so that inspecting and loading a file give the same answer.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

from motion_module.completeness import in_words, problems_of
from motion_module.errors import MotionFileError
from motion_module.image_encoder.header import check_image_encoder
from motion_module.image_input import check_image_input
from motion_module.kinds import (
    BASES,
    KINDS,
    MAX_LENGTH,
    OF_IMAGES,
    PIA,
    SITES_DOWN,
    SITES_UP,
    FileClues,
    Kind,
    detect_kind,
    kinds_of_layout,
)
from motion_module.network import Layout, MotionModule
from motion_module.temporal_transformer import NORM_GROUPS

from .diffusers_format import CONFIG, WEIGHTS, MotionSource, check_config
from .key_formats import (
    BLOCK_TABLE,
    MOTION_ADAPTER,
    TABLE,
    format_of,
    is_motion_weight,
    official_name,
    tables_of,
    without_prefixes,
)
from .other_models import identify_other
from .safe_unpickler import TensorHeader
from .weights import FileHeader

# Metadata keys of the files that we write.
KIND_KEY = "lib_animatediff_kind"
LENGTH_KEY = "lib_animatediff_trained_length"

_A_MODULE = "a motion module"
_UNET_WEIGHTS = ("conv_in.weight", "time_embedding.linear_1.weight")  # a file with these holds the base model as well


@dataclass(frozen=True)
class DetectedModule:
    """A motion module in a file.

    Attributes:
        kind: its kind.
        layout: its widths and trained length.
        format: key format, see `key_formats`.
        weights: key in the file by official name.
        tables: the same for the positional tables; empty if the file has none.
    """

    kind: Kind
    layout: Layout
    format: str
    weights: Mapping[str, str]
    tables: Mapping[str, str]


def detect_motion_module(source: MotionSource, header: FileHeader, kind: str | None = None) -> DetectedModule:
    """Detect the motion module in a file and check that it is complete.

    Args:
        source: the file.
        header: its header.
        kind: name of the kind, for files that do not reveal it.

    Raises:
        MotionFileError: the file is not a motion module, is incomplete, or its kind is unknown or ambiguous.
    """
    name = source.name
    of_image = None if kind is None else OF_IMAGES.get(kind)
    if kind is not None and kind not in KINDS and of_image is None:
        raise MotionFileError(f"There is no kind {kind!r}. Choose one of: {', '.join(KINDS)}.", code="AD-F07")
    plain = {key: without_prefixes(key) for key in header.tensors}
    if of_image is PIA:
        check_image_input(name, header)
    elif of_image is not None:
        check_image_encoder(name, header)
    else:
        _reject_other_models(name, {plain[key]: tensor for key, tensor in header.tensors.items()})
    spelling = format_of(plain.values())
    if spelling == MOTION_ADAPTER:
        check_config(source)
    else:
        source = replace(source, config={})

    whole_unet = of_image is not None or any(key in plain.values() for key in _UNET_WEIGHTS)
    motion = {key: short for key, short in plain.items() if not whole_unet or is_motion_weight(short)}
    names = _official_names(name, motion)
    tensors = {official: header.tensors[key] for official, key in names.items()}
    tables = {key: names[key] for key in names if key.endswith((TABLE, BLOCK_TABLE))}
    weights = {key: names[key] for key in names if key not in tables}

    length = _trained_length(source, header, tensors)
    found = of_image or _resolve_kind(source, header, kind, spelling, tensors)
    layout = _layout_of(name, tensors, found, length or found.table_length)
    expected = {**MotionModule.expected_shapes(layout, found), **_expected_tables(tables, layout, found)}
    _check_tensors(name, tensors, expected)
    official_tables = {official: key for table, key in tables.items() for official in tables_of(table)}
    return DetectedModule(found, layout, spelling, weights, official_tables)


def _reject_other_models(name: str, tensors: Mapping[str, TensorHeader]) -> None:
    other = identify_other(tensors)
    if other is not None:
        raise MotionFileError(
            f"{name} is {other.what}, not a motion module. {other.advice}", what=other.what, code="AD-F08"
        )
    if not tensors:
        raise MotionFileError(
            f"{name} contains no weights. Download it again.", what="a file without weights", code="AD-F09"
        )
    if not any(map(is_motion_weight, tensors)):
        raise MotionFileError(
            f"{name} is not a motion module: it contains no motion_modules weights. "
            "Choose a motion module such as v3_sd15_mm.ckpt.",
            what="weights of an unknown model",
            code="AD-F10",
        )


def _official_names(name: str, motion: Mapping[str, str]) -> dict[str, str]:
    names: dict[str, str] = {}
    duplicates = []
    for key, short in motion.items():
        official = official_name(short)
        if names.setdefault(official, key) != key:
            duplicates.append(f"{official} is stored twice, as {names[official]} and {key}")
    if duplicates:
        raise _incomplete(name, duplicates)
    return names


def _resolve_kind(
    source: MotionSource,
    header: FileHeader,
    requested: str | None,
    spelling: str,
    tensors: Mapping[str, TensorHeader],
) -> Kind:
    numbers = [key.split(".")[1] for key in tensors if key.startswith(("down_blocks.", "up_blocks."))]
    levels = max((int(number) for number in numbers if number.isdigit()), default=-1) + 1
    candidates = kinds_of_layout(levels, any(key.startswith("mid_block.") for key in tensors))
    if not candidates:
        bases = " and ".join(BASES.values())
        raise MotionFileError(
            f"{source.name} is a motion module for a UNet with {levels} resolution levels, not for {bases}. "
            "Choose one for these base models.",
            what="a motion module for another base model",
            code="AD-F11",
        )
    if requested is not None:
        if KINDS[requested] not in candidates:
            raise MotionFileError(
                f"{source.name} has the layout of kind {_alternatives(candidates)} and cannot be loaded as "
                f"{requested}. Choose another kind, or let it be detected.",
                what=_A_MODULE,
                kinds=[candidate.name for candidate in candidates],
                code="AD-F12",
            )
        return KINDS[requested]
    clues = FileClues(
        stated=header.metadata.get(KIND_KEY),
        format=spelling,
        config_length=source.trained_length,
        table_length=_table_length(tensors),
        file_name=source.name,
    )
    kind = detect_kind(candidates, clues)
    if kind is None:
        why = "lacks positional tables" if clues.table_length is None else "has positional tables of an unusual length"
        alternatives = _alternatives(candidates)
        raise MotionFileError(
            f"{source.name} {why}, so its kind is ambiguous: {alternatives}. "
            f"Rename {_rename_target(source)} so that its name contains the right one.",
            what=f"a motion module, {alternatives}",
            kinds=[candidate.name for candidate in candidates],
            code="AD-F13",
        )
    return kind


def _rename_target(source: MotionSource) -> str:
    return "its folder" if source.weights.name.startswith(WEIGHTS) else "the file"


def _alternatives(kinds: tuple[Kind, ...]) -> str:
    return " or ".join(kind.name for kind in kinds)


def _table_length(tensors: Mapping[str, TensorHeader]) -> int | None:
    lengths = [
        tensor.shape[1]
        for key, tensor in tensors.items()
        if key.endswith((TABLE, BLOCK_TABLE)) and len(tensor.shape) == 3
    ]
    return statistics.mode(lengths) if lengths else None


def _trained_length(source: MotionSource, header: FileHeader, tensors: Mapping[str, TensorHeader]) -> int | None:
    """The length by the most reliable source; None if none states it."""
    lengths = {
        "its positional tables": _table_length(tensors),
        f"its {CONFIG}": source.trained_length,
        f"{LENGTH_KEY} in its metadata": _written_length(header.metadata.get(LENGTH_KEY, "")),
    }
    for where, length in lengths.items():
        if length is not None and length > MAX_LENGTH:
            raise MotionFileError(
                f"{source.name} is damaged or malicious: according to {where} it was trained on clips of more than "
                f"{MAX_LENGTH} frames, which no motion module was. Download it again from its publisher.",
                what="a damaged or malicious file",
                code="AD-F14",
            )
    return next(filter(None, lengths.values()), None)


def _written_length(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()):
        return None
    return (
        int(text) if len(text) <= len(str(MAX_LENGTH)) else MAX_LENGTH + 1
    )  # never parse a number of a million digits


def _layout_of(name: str, tensors: Mapping[str, TensorHeader], kind: Kind, length: int) -> Layout:
    """All widths follow from the width at each resolution."""
    widths = []
    for level in range(kind.levels):
        key = f"down_blocks.{level}.motion_modules.0.temporal_transformer.proj_in.weight"
        if key not in tensors:
            raise _incomplete(name, [f"{key} is missing"])
        shape = tensors[key].shape
        if len(shape) != 2 or not shape[0] or shape[0] % NORM_GROUPS:
            raise _incomplete(name, [f"{key} has shape {shape}, but its width must be a multiple of {NORM_GROUPS}"])
        widths.append(shape[0])
    return Layout(
        down=tuple((width,) * SITES_DOWN for width in widths),
        mid=widths[-1] if kind.mid_block else None,
        up=tuple((width,) * SITES_UP for width in reversed(widths)),
        trained_length=length,
    )


def _expected_tables(tables: Mapping[str, str], layout: Layout, kind: Kind) -> dict[str, tuple[int, ...]]:
    """Shapes of all positional tables in the file's key format; empty if the file has none."""
    if not tables:
        return {}
    shapes = MotionModule.expected_shapes(layout, kind)
    end = ".attention_blocks.0.to_q.weight" if any(key.endswith(BLOCK_TABLE) for key in tables) else ".to_q.weight"
    table = BLOCK_TABLE if end.startswith(".attention") else TABLE
    owners = {key.removesuffix(end): shape[0] for key, shape in shapes.items() if key.endswith(end)}
    return {f"{owner}{table}": (1, layout.trained_length, width) for owner, width in owners.items()}


def _check_tensors(name: str, tensors: Mapping[str, TensorHeader], expected: Mapping[str, tuple[int, ...]]) -> None:
    if problems := problems_of(tensors, expected):
        raise _incomplete(name, problems)


def _incomplete(name: str, problems: list[str]) -> MotionFileError:
    return MotionFileError(
        f"{name} is not a complete motion module: {in_words(problems)}. Download it again.",
        what="an incomplete motion module",
        code="AD-F15",
    )


def parameters_by_dtype(header: FileHeader, found: DetectedModule) -> dict[str, int]:
    """Number of parameters per dtype. Positional tables are computed and do not count."""
    counts: dict[str, int] = defaultdict(int)
    for key in found.weights.values():
        shape, dtype = header.tensors[key]
        size = 1
        for length in shape:
            size *= length
        counts[dtype] += size
    return dict(counts)
