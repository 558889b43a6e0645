"""Say what a file is without loading it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from motion_module.errors import MotionFileError
from motion_module.schedules import BetaSchedule

from .detect import detect_motion_module, parameters_by_dtype
from .diffusers_format import find_source
from .weights import read_header


@dataclass(frozen=True)
class MotionFileInfo:
    """What a file is. For a file that is no motion module everything from ``kind`` on is None.

    Attributes:
        name: of the file or folder.
        what: ``"a motion module"``, or what else it is, such as ``"a motion LoRA"``.
        problem: the line with which `load_motion_module` refuses it; None for what loads.
        kind: ``motion.kind``.
        base: ``"sd15"`` or ``"sdxl"``, the image model that it animates.
        parameters: how many weights it has.
        trained_length: frames that it was trained for.
        schedule: noise levels that it was trained on.
        format: ``"official"``, ``"MotionAdapter"``, ``"HotShot-XL"`` or ``"AnimateLCM"``: the spelling of its names.
        container: ``"safetensors"`` or ``"pickle"``.
        dtype: that of most of its weights, such as ``"float16"``.
        hint: settings that it wants; empty where the usual ones do.
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


def inspect_motion_file(path: str | Path, *, kind: str | None = None) -> MotionFileInfo:
    """What a file is, by its header alone: nothing is loaded and no code runs, and a file of any size takes no memory.

    Args:
        path: a file, or the folder of a MotionAdapter. A missing or broken one is told in ``problem``; nothing raises.
        kind: as for `load_motion_module`.
    """
    path = Path(path)
    try:
        source = find_source(path)
        header = read_header(source.weights)
        found = detect_motion_module(source, header, kind)
    except MotionFileError as error:
        return MotionFileInfo(path.name or str(path), error.what or "not known", problem=str(error))
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
    )
