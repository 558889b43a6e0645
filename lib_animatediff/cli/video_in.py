"""Options of `animate` for a clip that starts from a video, and what the clip takes over from it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lib_animatediff.request.settings import SETTINGS
from lib_animatediff.request.video.taken_over import Names, VideoIn, examined
from lib_animatediff.request.video_start import DENOISE, VideoStart
from lib_animatediff.video.fitting import CROP, FITS
from lib_animatediff.video.source import Source
from motion_module import ClipError

HEADING = SETTINGS["video"].group
_NAMES = Names("--video-fps", "--fps")

_OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "video": (
        "--video",
        {
            "help": "Start from the frames of this video, GIF, folder of images, or pattern such as 'in/*.png'. "
            "Frames, rate and size are taken over where --frames, --fps, --width and --height are not given.",
        },
    ),
    "denoise": (
        "--denoise",
        {
            "type": float,
            "default": DENOISE,
            "show_default": True,
            "help": "Denoising strength: how much of the video is replaced, from 0 (nothing) to 1 (everything); try "
            "0.4 to 0.8. It is also the share of the steps that run.",
        },
    ),
    "video_start": (
        "--video-start",
        {"type": int, "default": 0, "show_default": True, "help": "First frame of the video, counted from 0."},
    ),
    "video_end": ("--video-end", {"type": int, "help": "Last frame of the video. Default: its last one."}),
    "video_every": (
        "--video-every",
        {"type": int, "default": 1, "show_default": True, "help": "Takes every n-th frame of the video."},
    ),
    "video_fps": (
        "--video-fps",
        {
            "type": float,
            "help": "Takes the video's frames at this rate, by their times, which variable rates need. Also the "
            "rate of a folder of images.",
        },
    ),
    "video_fit": (
        "--video-fit",
        {
            "type": click.Choice(FITS),
            "default": CROP,
            "show_default": True,
            "help": "How the video fits a clip of another shape: cropped, padded with black, or scaled to it.",
        },
    ),
    "video_mute": ("--video-mute", {"is_flag": True, "help": "Leaves out the video's sound in MP4 and WebM."}),
}
HEADINGS = dict.fromkeys(_OPTIONS, HEADING)
NAMES = {name: option for name, (option, _) in _OPTIONS.items()}


def with_video_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command."""
    for name, (option, details) in reversed(_OPTIONS.items()):
        command = click.option(option, name, **details)(command)
    return command


def take_video(options: dict[str, Any]) -> VideoIn | None:
    """Take the video's options out of those of a command, examine it, and set the number of frames and the rate.

    Args:
        options: of the command that runs. ``frames`` and ``fps`` become those of the video unless they were given.

    Raises:
        AnimateDiffError: a value is out of range, or the video cannot be used.
    """
    given = {name: options.pop(name) for name in _OPTIONS}
    if not given["video"]:
        if idle := [option for name, (option, _) in _OPTIONS.items() if _is_given(name)]:
            raise ClipError(f"{', '.join(idle)} would have no effect without --video. Give a video.", code="AD-K25")
        return None
    source = Source(
        Path(given["video"]),
        start=given["video_start"],
        end=given["video_end"],
        every=given["video_every"],
        fps=given["video_fps"],
        fit=given["video_fit"],
    )
    start = VideoStart(source, given["denoise"])
    frames = options["frames"] if _is_given("frames") else 0
    video = examined(start, frames, is_muted=given["video_mute"], names=_NAMES)
    if not _is_given("frames") or options["frames"] == 0:
        options["frames"] = video.facts.frames
    if not _is_given("fps"):
        options["fps"] = video.rate
    return video


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT
