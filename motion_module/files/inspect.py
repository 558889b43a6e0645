"""Identify a file without loading it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from motion_module.errors import MotionFileError
from motion_module.guide_files import find_guide
from motion_module.kinds import OF_IMAGES
from motion_module.schedules import BetaSchedule

from .detect import detect_motion_module, parameters_by_dtype
from .diffusers_format import find_source
from .weights import read_header

# How `MotionFileInfo.what` begins for files with a `MotionFileInfo.guide`.
_GUIDES = ("a SparseCtrl encoder", "a CameraCtrl model", "an AnimateLCM-I2V model", "a PIA model")


@dataclass(frozen=True)
class MotionFileInfo:
    """What a file is. Except for motion modules and files with a ``guide``, all fields after ``problem`` are None.

    Attributes:
        name: name of the file or folder.
        what: ``"a motion module"``, or what else it is, such as ``"a motion LoRA"``.
        problem: message with which `load_motion_module` refuses the file; None if it loads.
        kind: its kind, as in ``motion.kind``.
        base: the image model that it animates, ``"sd15"`` or ``"sdxl"``.
        parameters: number of weights.
        trained_length: number of frames that it was trained for.
        schedule: noise levels of its training.
        format: key format: ``"official"``, ``"MotionAdapter"``, ``"HotShot-XL"`` or ``"AnimateLCM"``.
        container: ``"safetensors"`` or ``"pickle"``.
        dtype: dtype of most weights, such as ``"float16"``.
        hint: advice on settings; empty if the usual settings work.
        widths: channels at each resolution of the UNet, the finest first.
        guide: what a file is that steers a clip beside or as its motion module: ``"sparsectrl-rgb"``,
            ``"sparsectrl-scribble"``, ``"pia"``, ``"i2v"`` or ``"cameractrl"``. Its kind is None.
    """

    name: str
    what: str
    problem: str | None = None
    kind: str | None = None
    base: str | None = None
    parameters: int | None = None
    trained_length: int | None = None
    schedule: BetaSchedule | None = None
    format: str | None = None
    container: str | None = None
    dtype: str | None = None
    hint: str | None = None
    widths: tuple[int, ...] | None = None
    guide: str | None = None


def inspect_motion_file(path: str | Path, *, kind: str | None = None) -> MotionFileInfo:
    """Identify a file by its header: no tensor is read, no code is run, and memory use does not depend on its size.

    Args:
        path: a file, or the folder of a MotionAdapter. If it is missing or damaged, ``problem`` says so; nothing is
            raised.
        kind: see `load_motion_module`.
    """
    path = Path(path)
    try:
        source = find_source(path)
        header = read_header(source.weights)
        found = detect_motion_module(source, header, kind)
    except MotionFileError as error:
        other = MotionFileInfo(path.name or str(path), error.what or "unknown", problem=str(error))
        return _with_guide(other, path)
    counts = parameters_by_dtype(header, found)
    return MotionFileInfo(
        name=source.name,
        what="a motion module",
        kind=found.kind.name,
        base=found.kind.base,
        parameters=sum(counts.values()),
        trained_length=found.layout.trained_length,
        schedule=found.kind.schedule,
        format=found.format,
        container=header.container,
        dtype=max(counts, key=lambda dtype: counts[dtype]),
        hint=found.kind.hint,
        widths=tuple(sites[0] for sites in found.layout.down),
    )


def _with_guide(other: MotionFileInfo, path: Path) -> MotionFileInfo:
    """What is known of a file that steers a clip; ``other`` itself for the rest, and if weights are missing."""
    try:
        guide = find_guide(path) if other.what.startswith(_GUIDES) else None  # no second look at all the others
    except MotionFileError:
        return other
    if guide is None:
        return other
    counts = guide.parameters_by_dtype
    return replace(
        other,
        base="sd15",
        parameters=sum(counts.values()),
        trained_length=guide.trained_length,
        schedule=OF_IMAGES[guide.kind].schedule if guide.kind in OF_IMAGES else None,
        format=guide.format,
        container=guide.header.container,
        dtype=max(counts, key=lambda dtype: counts[dtype]),
        widths=guide.widths,
        guide=guide.kind,
    )
