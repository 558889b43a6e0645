"""From the settings of a request to its source video, examined."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from lib_animatediff.request.motion_scale import parse_frames
from lib_animatediff.request.settings import ClipSettings, clip_frames
from lib_animatediff.request.settings.setting import LONGEST_CLIP
from lib_animatediff.request.settings.video import MOST_DENOISE, OWN_RATE, TO_THE_END, TRANSPARENT
from lib_animatediff.request.start.video import VideoStart
from lib_animatediff.video.mask import VideoMask
from lib_animatediff.video.source import Source

from .taken_over import NAMES, Names, VideoIn, examined


def choose_video(
    settings: ClipSettings,
    given: Collection[str],
    find: Callable[[str], tuple[Path, str]],
    strength: float | None = None,
    names: Names = NAMES,
) -> tuple[ClipSettings, VideoIn | None]:
    """Examine the source video of a request, and take number of frames and rate over from it unless they are given.

    Args:
        given: names of the settings that the request gives.
        find: returns the file for a path of the request, and the path as infotexts have it.
        strength: the host's own denoising strength, instead of a single one of the settings; None: it has none.
        names: of two settings, for messages.

    Returns:
        The settings with the path as infotexts have it, and the video; None if there is none.

    Raises:
        AnimateDiffError: the video cannot be used.
    """
    if not settings.video.strip():
        return settings, None
    path, shown = find(settings.video.strip())
    source = Source(
        path,
        start=settings.video_start,
        end=None if settings.video_end == TO_THE_END else settings.video_end,
        every=settings.video_every,
        fps=None if settings.video_fps == OWN_RATE else settings.video_fps,
        fit=settings.video_fit,
    )
    mask, shown_mask = _mask(settings, find)
    frames = settings.frames if "frames" in given else 0
    start = VideoStart(source, mask=mask, inversion=settings.video_inversion)
    video = examined(start, 1 if settings.preview else frames, is_muted=settings.video_mute, names=names)
    settings = replace(settings, video=shown, mask=shown_mask)
    if not frames and not settings.preview:
        settings = replace(settings, frames=video.facts.frames)
    video = replace(video, start=replace(start, denoise=_denoise(settings, strength)))
    return settings if "fps" in given else replace(settings, fps=video.rate), video


def _mask(settings: ClipSettings, find: Callable[[str], tuple[Path, str]]) -> tuple[VideoMask | None, str]:
    """The mask, and its path as infotexts have it."""
    given = settings.mask.strip()
    if not given:
        return None, ""
    path, shown = (None, TRANSPARENT) if given.lower() == TRANSPARENT else find(given)
    return VideoMask(path, settings.mask_invert, settings.mask_feather), shown


def _denoise(settings: ClipSettings, strength: float | None) -> float | tuple[float, ...]:
    # A preview reads no more than the first frame of the video, so it does not know how many there are.
    frames = LONGEST_CLIP if settings.preview else clip_frames(settings)
    strengths = parse_frames("denoise", settings.denoise, frames, MOST_DENOISE)[: 1 if settings.preview else frames]
    if len(set(strengths)) > 1:
        return strengths
    return strengths[0] if strength is None else strength
