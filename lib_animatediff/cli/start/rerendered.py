"""Options of `animate` for a finished clip of which some frames are rendered again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from lib_animatediff.cli.options import is_given
from lib_animatediff.request.settings import SETTINGS
from lib_animatediff.request.start.rerender import Rerender, rerender
from motion_module import ClipError

from .continued import RERENDERED, carry_on

OTHER_OPTIONS = {
    "rerender_clip": "--rerender",
    "rerender_frames": "--rerender-frames",
    "rerender_strength": "--rerender-strength",
}
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    RERENDERED: (
        OTHER_OPTIONS["rerender_clip"],
        {
            "type": click.Path(path_type=Path),
            "is_eager": True,
            "callback": carry_on,
            "help": "Render some frames of this finished clip again; all others stay as they are. Other options "
            "default to its recipe.",
        },
    ),
    "rerender_frames": (
        OTHER_OPTIONS["rerender_frames"],
        {
            "default": SETTINGS["rerender_frames"].default,
            "metavar": "FRAMES",
            "help": "The frames that are rendered again, such as 8-15 or 3,8-15, counted from 0.",
        },
    ),
    "rerender_strength": (
        OTHER_OPTIONS["rerender_strength"],
        {
            "type": float,
            "default": SETTINGS["rerender_strength"].default,
            "show_default": True,
            "help": SETTINGS["rerender_strength"].full_help,
        },
    ),
}


def take(given: Mapping[str, Any], options: dict[str, Any], others: Sequence[str]) -> Rerender | None:
    """The clip that is rendered again in part, examined; None: there is none.

    Args:
        given: values of `OPTIONS`.
        options: of the command that runs. ``frames`` becomes that of the clip.
        others: options of other images, which were given.

    Raises:
        AnimateDiffError: options do not fit together, or the clip cannot be used.
    """
    path = given[RERENDERED]
    if path is None:
        if idle := [OTHER_OPTIONS[name] for name in ("rerender_frames", "rerender_strength") if is_given(name)]:
            raise ClipError(
                f"{', '.join(idle)} would have no effect without --rerender. Give the clip to render again.",
                code="AD-K39",
            )
        return None
    if others := [*others, *(["--video"] if is_given("video") else [])]:
        raise ClipError(
            f"--rerender keeps all other frames of its clip, beside which {', '.join(others)} cannot be used. Leave "
            "one of them out.",
            code="AD-K40",
        )
    strength = given["rerender_strength"]
    if not 0 <= strength <= 1:
        raise ClipError(f"--rerender-strength must be from 0 to 1, not {strength}.", code="AD-K42")
    found = rerender(path, given["rerender_frames"], strength)
    if is_given("frames") and options["frames"] != found.frames:
        raise ClipError(
            f"--frames {options['frames']} does not fit --rerender: {path.name} has {found.frames} frames, and the new "
            "clip has as many. Leave --frames out.",
            code="AD-K41",
        )
    options["frames"] = found.frames
    return found
