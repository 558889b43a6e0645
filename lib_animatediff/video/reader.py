"""Read the frames of any clip one by one, with exact times."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fractions import Fraction
from itertools import count as count_from
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion_module import AnimateDiffError, ClipError
from motion_module.limits import VIDEO_FRAMES, exists, is_file

from .atomic import plain_reason
from .avif import need_avif
from .cut_short import is_cut_short
from .decode_video import DecodedFrame, decode_frames, stated_frames
from .images import check_size, open_image
from .metadata import kind_of, read_recipe
from .png import frame_delays
from .series import deep_format, is_pattern, is_series, plain, read_image, series_files, series_frames, upright
from .timing import exact_fps

if TYPE_CHECKING:
    from PIL.Image import Image

_MILLISECONDS = 1000
_UNSAID = Fraction(1, 10)  # seconds that browsers show a frame with a missing or zero duration


class ClipFrame:
    """A frame of a clip.

    Attributes:
        index: its number, from 0.
        time: when it appears, in seconds since the first frame.
        duration: how long it is shown, in seconds; 0 for a still image.
    """

    def __init__(self, index: int, time: Fraction, duration: Fraction, shown: DecodedFrame) -> None:
        self.index, self.time, self.duration = index, time, duration
        self._decoded = shown

    @property
    def image(self) -> Image:
        """The upright image, RGB or RGBA; converted on every access.

        Raises:
            ClipError: its data are damaged. They are decoded here.
        """
        try:
            return self._decoded.image()
        except AnimateDiffError:
            raise
        except Exception as error:
            raise ClipError(
                f"Frame {self.index} of the clip cannot be decoded ({error}). The file is damaged; get it again.",
                code="AD-V34",
            ) from error

    def array(self) -> Any:
        """The image as a numpy array: ``h w c`` uint8, c is 3 or 4."""
        import numpy

        return numpy.array(self.image)


def read_clip(
    path: Path, *, start: int = 0, count: int | None = None, fps: float | Fraction | None = None
) -> Iterator[ClipFrame]:
    """Read the frames of a clip, a video, or a series of images. Frames are decoded when they are consumed.

    Args:
        path: file, folder, or pattern of file names such as ``frames/*.png``.
        start: index of the first frame to read.
        count: number of frames to read; None for all remaining ones.
        fps: resample to this rate: at each time, the frame that is visible then. None keeps frames and times. Also
            the rate of a series that does not state one.

    Raises:
        ClipError: the clip cannot be read, or the rate of a series is unknown. Errors found during decoding are raised
            while frames are consumed.
        AnimateDiffError: a library for the format is missing.
    """
    if start < 0 or (count is not None and count < 0):
        raise ClipError(f"start and count must be 0 or more, not {start} and {count}.", code="AD-V14")
    rate = None if fps is None else exact_fps(fps)
    timed = timed_frames(path, rate)
    frames = timed if rate is None else resampled(timed, rate)
    numbered = (ClipFrame(index, *frame) for index, frame in enumerate(frames))
    return islice(numbered, start, None if count is None else start + count)


Timed = tuple[Fraction, Fraction, DecodedFrame]
"""Start and duration in seconds, and the frame."""


def timed_frames(path: Path, rate: Fraction | None = None) -> Iterator[Timed]:
    """The frames as they are stored, for arguments as for `read_clip`; ``rate`` is that of a series without one.

    Raises:
        ClipError: the clip does not exist; anything else while frames are consumed.
    """
    if not exists(path) and not is_pattern(path):
        raise ClipError(f"There is no file {path}. Check the path.", code="AD-V15")
    return _with_durations(_whole(path, _decoded_frames(path, rate)))


def series_rate(path: Path) -> Fraction | None:
    """The rate that the recipe in the first image of a series states."""
    first = series_files(path)[0]
    return read_recipe(first).fps if first.suffix.lower() == ".png" else None


def _decoded_frames(path: Path, rate: Fraction | None) -> Iterator[DecodedFrame]:
    if is_series(path):
        fps = series_rate(path) or rate
        if fps is None:
            raise ClipError(f"The frame rate of {path} is unknown. Pass fps.", code="AD-V17")
        yield from series_frames(series_files(path), fps)
    elif deep_format(path):
        yield DecodedFrame(Fraction(0), Fraction(0), read_image(path))
    elif (kind := kind_of(path)) == "video":
        yield from decode_frames(path)
    else:
        yield from _picture_frames(path, kind)


def _whole(path: Path, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """The frames of a file, which must have some, not too many, and all that its container says.

    Any error of a decoder becomes a `ClipError` that names the file, after the frames decoded so far.
    """
    number = 0
    try:
        for number, frame in enumerate(frames, 1):
            if number > VIDEO_FRAMES:
                raise ClipError(f"{path} has more than {VIDEO_FRAMES} frames. Cut it into parts.", code="AD-V30")
            yield frame
    except AnimateDiffError:
        raise
    except Exception as error:
        _check_end(path, number)
        raise ClipError(
            f"{path} cannot be decoded ({plain_reason(error)}). The file may be damaged.", code="AD-V16"
        ) from error
    _check_end(path, number)
    if not number:
        raise ClipError(f"{path} contains no frames. Choose another file.", code="AD-V32")


def _check_end(path: Path, read: int) -> None:
    if not is_file(path) or not is_cut_short(path, kind := kind_of(path)):
        return
    stated = None
    if kind == "video":
        with suppress(Exception):  # without its index, a video states nothing
            stated = stated_frames(path)
    frames = f"{read} of {stated} frames" if stated else f"{read} frames"
    raise ClipError(f"{path} is cut short: {frames} can be read. Get the whole file.", code="AD-V31")


def _with_durations(frames: Iterable[DecodedFrame]) -> Iterator[Timed]:
    """A frame lasts until the next one; the last one as long as it states, otherwise as the one before."""
    held: DecodedFrame | None = None
    last = Fraction(0)
    for shown in frames:
        if held is not None:
            last = max(shown.time - held.time, Fraction(0))
            yield held.time, last, held
        held = shown
    if held is not None:
        yield held.time, last if held.duration is None else held.duration, held


def resampled(frames: Iterator[Timed], fps: Fraction) -> Iterator[Timed]:
    """The visible frame at each multiple of ``1 / fps``; at least one frame."""
    index = 0
    for time, duration, shown in frames:
        while index / fps < time + duration or (index == 0 and not duration):
            yield index / fps, 1 / fps, shown
            index += 1


def _picture_frames(path: Path, kind: str) -> Iterator[DecodedFrame]:
    if kind == "avif":
        need_avif()
    delays = frame_delays(path) if kind == "png" else []
    time = Fraction(0)
    with open_image(path) as image:
        # The default image of an APNG may not be part of the animation.
        first = getattr(image, "n_frames", 1) - len(delays) if delays else 0
        is_animated = getattr(image, "is_animated", False)  # a GIF would be read to its end to count its frames
        for index in count_from(first):
            try:
                image.seek(index)
            except EOFError:
                return
            check_size(str(path), *image.size)
            # Decoding sets the duration of WebP and AVIF frames.
            shown = upright(image) if kind == "jpeg" else plain(image)
            duration = delays[index - first] if delays else _duration(path, image, is_animated, kind)
            yield DecodedFrame(time, duration, shown)
            time += duration


def _duration(path: Path, image: Any, is_animated: bool, kind: str) -> Fraction:
    """Duration in seconds of the current frame of a Pillow image."""
    if kind == "avif" and not is_animated:  # a still image, for which Pillow makes up a second
        fps = read_recipe(path).fps
        return 1 / fps if fps else Fraction(0)
    stated = Fraction(image.info.get("duration") or 0) / _MILLISECONDS
    return stated or (_UNSAID if is_animated else Fraction(0))
