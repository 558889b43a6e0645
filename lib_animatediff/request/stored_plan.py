"""A plan read back from JSON. A file can come from anyone, so each value is checked again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NoReturn

from motion_module import ClipError

from .control.unit import control_from_json
from .methods import FileCatalog
from .plan import FILES, ClipPlan, Sampling, add_controls, add_ramp, plan_clip
from .settings import parse_settings
from .start.pins import path_in, pins_from_json
from .start.ramp import ramp_from_json
from .start.video import video_start_from_json

_LARGEST = 2**64  # seeds are below it; infinity and what is not a number are not
_KINDS = {"str": str, "str | None": (str, type(None)), "int": int, "float": (int, float), "Path": str}


def plan_from_json(data: Mapping[str, Any], files: FileCatalog | None = None) -> ClipPlan:
    """The plan that `ClipPlan.to_json` wrote; its values are checked again, since a file can come from anyone.

    Raises:
        AnimateDiffError: a value is wrong or missing, or a file is missing.
    """
    sampling = _read(Sampling, data.get("sampling"), "sampling")
    plan = plan_clip(parse_settings(_checked(data.get("settings"), dict, "settings")), sampling, files)
    given = _checked(data.get("files"), dict, "files")
    modules, loras = (
        [_read(kind, entry, name) for entry in _checked(given.get(name), list, name)] for name, kind in FILES.items()
    )
    plan = plan.with_files(modules, loras) if modules or loras else plan
    if "video" in data:
        video = _checked(data["video"], dict, "video")
        plan = plan.with_video(video_start_from_json(video, path_in))
    plan = plan.with_pins(pins_from_json(data["pins"], path_in)) if "pins" in data else plan
    plan = add_ramp(plan, ramp_from_json(data["ramp"], path_in)) if "ramp" in data else plan
    controls = _checked(data.get("controls", []), list, "controls")
    return add_controls(plan, [control_from_json(entry, path_in) for entry in controls])


def _read(kind: type, entry: Any, name: str) -> Any:
    """One of our small dataclasses from JSON."""
    known = {one.name: str(one.type) for one in fields(kind)}
    values = {
        key: _checked(value, _KINDS[known[key]], f"{name}, {key}") if key in known else _damaged(name, key)
        for key, value in _checked(entry, dict, name).items()
    }
    paths = {key: Path(value) for key, value in values.items() if known[key] == "Path"}
    try:
        return kind(**values | paths)
    except TypeError:
        _damaged(name, entry)


def _checked(value: Any, kind: Any, name: str) -> Any:
    is_number = isinstance(value, (int, float))
    if not isinstance(value, kind) or isinstance(value, bool) or (is_number and not -_LARGEST < value < _LARGEST):
        _damaged(name, value)
    return value


def _damaged(name: str, value: Any) -> NoReturn:
    raise ClipError(f"This plan is damaged: {name} is {value!r:.40}. Create it again from the settings.", code="AD-C33")
