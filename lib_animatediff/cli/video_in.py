"""Options of `animate` for a clip that starts from a video, and what the clip takes over from it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.settings import SETTINGS
from lib_animatediff.request.video_start import DENOISE, VideoStart
from lib_animatediff.video.fitting import CROP, FITS, inherited_size
from lib_animatediff.video.metadata import kind_of
from lib_animatediff.video.series import deep_format, is_series
from lib_animatediff.video.sound import SOUND_FORMATS, Sound, check_sound, has_sound
from lib_animatediff.video.source import Source, SourceFacts, examine
from lib_animatediff.video.timing import exact_fps
from motion_module import ClipError

HEADING = "Video in"
_PACE = Fraction(1, 50)  # seconds by which image and sound may part

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


@dataclass(frozen=True)
class VideoIn:
    """The video that a clip starts from, examined.

    Attributes:
        start: its chosen frames, and the denoising strength.
        facts: about these frames.
        is_muted: whether its sound is left out.
    """

    start: VideoStart
    facts: SourceFacts
    is_muted: bool

    def size(self, width: int | None, height: int | None) -> tuple[int, int]:
        """Width and height of the clip, in which given sides stay."""
        return inherited_size(self.facts.size, self.start.source.fit, width=width, height=height)

    def sound(self, plan: ClipPlan, formats: Sequence[str]) -> Sound | None:
        """The sound of the clip's files; None if there is none, or none that fits.

        Raises:
            ClipError: it is damaged.
        """
        if not self._is_heard(formats) or self._why_silent(plan):
            return None
        sound = Sound(self.start.source.path, self.facts.start, _duration(plan))
        check_sound(sound)
        return sound

    def lines(self, plan: ClipPlan, formats: Sequence[str]) -> list[str]:
        """What the user should know about the clip and its source."""
        source, found = self.start.source, []
        if self.facts.varies:
            found.append(
                f"{source.name} shows its frames for different times, which the clip does not: it has "
                f"{float(self.facts.fps):.4g} frames per second throughout. --video-fps keeps the times."
            )
        if self._is_heard(formats) and (why := self._why_silent(plan)):
            found.append(f"The clip has no sound, since {why}.")
        return found

    def _is_heard(self, formats: Sequence[str]) -> bool:
        """Whether there is sound, and a format that takes it."""
        path = self.start.source.path
        return not self.is_muted and bool(set(formats) & set(SOUND_FORMATS)) and _is_film(path) and has_sound(path)

    def _why_silent(self, plan: ClipPlan) -> str:
        if not plan.makes_clip:
            return "the preview is one image"
        if plan.output.ping_pong:
            return "it also plays backward"
        other_pace = abs(_duration(plan) - self.facts.duration) > _PACE
        return f"it plays at another speed than {self.start.source.name}" if other_pace else ""


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
    most = int(SETTINGS["frames"].maximum or 0)
    facts = examine(source, frames=min(max(options["frames"], 0), most) if _is_given("frames") else 0, most=most)
    if not _is_given("frames") or options["frames"] == 0:
        options["frames"] = facts.frames
    if not _is_given("fps"):
        options["fps"] = _checked_rate(source, facts.fps)
    return VideoIn(start, facts, given["video_mute"])


def _duration(plan: ClipPlan) -> Fraction:
    return plan.frames / exact_fps(plan.output.fps)


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def _checked_rate(source: Source, fps: Fraction) -> float:
    limits = SETTINGS["fps"]
    assert limits.minimum is not None
    assert limits.maximum is not None
    if not limits.minimum <= fps <= limits.maximum:
        raise ClipError(
            f"{source.name} has {float(fps):.4g} frames per second, and a clip can have {limits.minimum:g} to "
            f"{limits.maximum:g}. Resample it with --video-fps, or play it at another speed with --fps.",
            code="AD-K26",
        )
    return float(fps)


def _is_film(path: Path) -> bool:
    return not is_series(path) and kind_of(path) == "video" and not deep_format(path)
