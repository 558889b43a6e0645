"""The video that a clip of `animate` starts from, and what the clip takes over from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lib_animatediff.request.settings import VIDEO_SETTINGS, parse_settings
from lib_animatediff.request.start.choosing import choose_video
from lib_animatediff.request.start.taken_over import Names, VideoIn
from motion_module import ClipError

from .images_in import asks_for_ramp

_NAMES = Names("--video-fps", "--fps", "--video-inversion")
_INHERITED = ("frames", "fps")


def take_video(options: dict[str, Any]) -> VideoIn | None:
    """Take the video's settings out of the options of a command, examine it, and set the number of frames and the rate.

    Args:
        options: of the command that runs. ``frames`` and ``fps`` become those of the video unless they were given.
            ``denoise`` stays for a clip that starts from images instead.

    Raises:
        AnimateDiffError: a value is out of range, or the video cannot be used.
    """
    given = {name: options.pop(name) for name in VIDEO_SETTINGS}
    if not given["video"]:
        idle = [name for name in VIDEO_SETTINGS if _is_given(name)]
        if asks_for_ramp(options):
            options["denoise"] = given["denoise"]
            idle = [name for name in idle if name != "denoise"]
        if idle := [f"--{name.replace('_', '-')}" for name in idle]:
            raise ClipError(f"{', '.join(idle)} would have no effect without --video. Give a video.", code="AD-K25")
        return None
    inherited = {name: options[name] for name in _INHERITED}
    settings, video = choose_video(
        parse_settings(given | inherited),
        [name for name in _INHERITED if _is_given(name)],
        lambda text: (Path(text), text),
        names=_NAMES,
    )
    options |= {name: getattr(settings, name) for name in _INHERITED}
    return video


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT
