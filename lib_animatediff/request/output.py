"""The files of a clip: formats, frame rate, and which frames they show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from lib_animatediff.video import exact_fps, ping_pong
from lib_animatediff.video.interpolate import Interpolation
from lib_animatediff.video.interpolators import AUTO, DIS, RIFE, Interpolator
from lib_animatediff.video.opencv import need_opencv
from lib_animatediff.video.rife_file import check_rife, need_packaged_weights, packaged_weights

from .settings import FILE_FORMATS, FRAME, ClipSettings, interpolation

if TYPE_CHECKING:
    from fractions import Fraction

    from PIL.Image import Image

    from .methods import FileCatalog


@dataclass(frozen=True)
class OutputPlan:
    """The files of a clip.

    Attributes:
        formats: keys of `video.FORMATS`.
        with_frames: whether single frames go to the gallery and into the API's reply.
        fps: frames per second of the rendered frames.
        loop_count: how often the clip plays; 0: forever.
        ping_pong: whether the clip plays back to its beginning.
        request_id: a client's word at the end of file names; may be empty.
        interpolation: frames that are added; None: none are.
    """

    formats: tuple[str, ...]
    with_frames: bool
    fps: float
    loop_count: int
    ping_pong: bool
    request_id: str
    interpolation: Interpolation | None = None

    @property
    def shown_fps(self) -> Fraction:
        """Frames per second of the files."""
        return exact_fps(self.fps) if self.interpolation is None else self.interpolation.shown_at

    def played(self, frames: Sequence[Image]) -> Sequence[Image]:
        """The rendered frames in the order of playback."""
        return ping_pong(frames) if self.ping_pong else frames

    def shown(self, frames: Sequence[Image]) -> Sequence[Image]:
        """The frames of the files; those that are added to the rendered ones are made when they are read.

        Raises:
            AnimateDiffError: OpenCV is missing.
        """
        return self.played(frames) if self.interpolation is None else self.interpolation.apply(frames)

    def shown_count(self, frames: int) -> int:
        """Number of frames of the files, for so many rendered ones."""
        if self.interpolation is not None:
            return self.interpolation.count(frames)
        return len(ping_pong(range(frames))) if self.ping_pong else frames

    def check_weights(self) -> None:
        """Check the file of RIFE, if one makes frames, by its header.

        Raises:
            AnimateDiffError: it cannot be read, or is another model.
        """
        if self.interpolation is not None and self.interpolation.interpolator.weights is not None:
            check_rife(self.interpolation.interpolator.weights)


def output_of(settings: ClipSettings, files: FileCatalog | None = None) -> OutputPlan:
    """The output that settings ask for.

    Args:
        files: the user's files; None: names are paths, and no file is read.

    Raises:
        AnimateDiffError: frames are to be added, and OpenCV or RIFE is missing or the file would have too many.
    """
    added = interpolation(settings)
    if added is not None:
        need_opencv("interpolate")
        added = replace(added, interpolator=_interpolator(settings.interpolator, files))
    plan = OutputPlan(
        formats=tuple(FILE_FORMATS[name] for name in settings.formats if name != FRAME),
        with_frames=FRAME in settings.formats,
        fps=settings.fps,
        loop_count=settings.loop_count,
        ping_pong=settings.reverse,
        request_id=settings.request_id,
        interpolation=added,
    )
    if files is not None:
        plan.check_weights()
    return plan


def is_rife_file(interpolator: str) -> bool:
    """Whether the setting ``interpolator`` names a file."""
    return interpolator not in (AUTO, DIS, RIFE)


def _interpolator(name: str, files: FileCatalog | None) -> Interpolator:
    if name == AUTO:
        return Interpolator(packaged_weights())
    if name == DIS:
        return Interpolator()
    if name == RIFE:
        return Interpolator(need_packaged_weights(), everywhere=True)
    return Interpolator(Path(name) if files is None else files.find_rife(name), everywhere=True)
