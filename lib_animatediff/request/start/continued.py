"""A clip that continues an earlier one: its last frames are the first ones of the new clip, and its recipe goes on."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lib_animatediff.request.settings import (
    CONTROL_SETTINGS,
    GUIDE_SETTINGS,
    IMAGE_SETTINGS,
    VIDEO_SETTINGS,
    ClipSettings,
    from_infotext,
)
from lib_animatediff.request.settings.interpolation import OFF
from lib_animatediff.sampling.frame_noise import SEED_LIMIT
from lib_animatediff.video.source import Source, examine
from motion_module import ClipError

from .pins import Pin

NOT_CARRIED = (
    *("enable", "formats", "request_id", "resume", "frame_seeds", "preview", "interpolator"),
    *VIDEO_SETTINGS,
    *IMAGE_SETTINGS,
    *GUIDE_SETTINGS,
    *CONTROL_SETTINGS,
)
"""Settings that belong to one clip."""

_SETTINGS_FIELD, _NEGATIVE = "AnimateDiff", "Negative prompt: "
_FIELD = re.compile(r'\s*([\w \-/]+): ("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_FEWEST_FIELDS = 3  # of a line that is one of fields, and not of a prompt


def last_frames(path: Path, keep: int, frames: int) -> list[Pin]:
    """The last frames of a clip as the first ones of the next.

    Args:
        keep: how many of them.
        frames: of the next clip.

    Raises:
        AnimateDiffError: the clip cannot be read, or has not so many frames.
    """
    count = examine(Source(path)).frames
    most = min(count, frames - 1)
    if not 1 <= keep <= most:
        raise ClipError(
            f"{keep} frames cannot be kept: {path.name} has {count} frames, and the new clip {frames}. Keep 1 to "
            f"{most}.",
            code="AD-S24",
        )
    return [Pin(frame, path, count - keep + frame) for frame in range(keep)]


def check_direction(name: str, settings: ClipSettings | Mapping[str, Any]) -> None:
    """Refuse a clip whose last frames do not show where it goes.

    Args:
        name: of the file.
        settings: of the clip.

    Raises:
        ClipError: it has frames in between, or also plays backward.
    """
    given = vars(settings) if isinstance(settings, ClipSettings) else settings
    if given.get("reverse") or given.get("interpolate", OFF) != OFF:
        raise ClipError(
            f"{name} has frames in between or also plays backward, so that its last frames do not show where it goes. "
            "Render it without interpolation and reverse first.",
            code="AD-S25",
        )


def next_seed(seed: int, frames: int) -> int:
    """The seed of a clip that continues one of so many frames: no frame has the noise of an earlier one."""
    return (seed + frames) % SEED_LIMIT


@dataclass(frozen=True)
class Infotext:
    """What the infotext of a clip says, as the WebUI writes it. The text may come from anyone.

    Attributes:
        prompt, negative_prompt: empty for a text without fields.
        fields: by their names, such as ``Steps``.
        settings: of the clip, by canonical name.
    """

    prompt: str = ""
    negative_prompt: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)


def read_infotext(text: str) -> Infotext:
    """The infotext of a clip; one without fields says nothing."""
    *lines, last = text.strip().split("\n")
    fields = {name.strip(): _unquoted(value.strip()) for name, value in _FIELD.findall(last)}
    if len(fields) < _FEWEST_FIELDS:
        return Infotext()
    begins = next((number for number, line in enumerate(lines) if line.startswith(_NEGATIVE)), len(lines))
    negative = "\n".join(lines[begins:]).removeprefix(_NEGATIVE)
    return Infotext("\n".join(lines[:begins]), negative, fields, from_infotext(fields.get(_SETTINGS_FIELD, "")))


def _unquoted(value: str) -> str:
    if not value.startswith('"'):
        return value
    try:
        return str(json.loads(value))
    except ValueError:
        return value
