"""Frames of any clip with exact times, one by one: what we write, and what cameras do."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motion_module import AnimateDiffError, ClipError

from .atomic import plain_reason
from .avif import need_avif
from .decode_video import DecodedFrame, decode_frames
from .metadata import frame_files, kind_of, read_recipe
from .png import frame_delays
from .timing import exact_fps

if TYPE_CHECKING:
    from PIL.Image import Image

_MILLISECONDS = 1000
_UNSAID = Fraction(1, 10)  # how long browsers show what says nothing or nought


class ClipFrame:
    """A frame of a clip.

    Attributes:
        index: its number, from 0.
        time: when it appears, in seconds from the first one.
        duration: how long it is shown, in seconds; 0 for a still image.
    """

    def __init__(self, index: int, time: Fraction, duration: Fraction, shown: DecodedFrame) -> None:
        self.index, self.time, self.duration = index, time, duration
        self._decoded_frames = shown

    @property
    def image(self) -> Image:
        """The image, upright, RGB or RGBA; made anew at each call from what the decoder holds."""
        return self._decoded_frames.image()

    def array(self) -> Any:
        """The image as an array of numpy, which must be installed: ``h w c`` in bytes, c being 3 or 4."""
        import numpy

        return numpy.array(self.image)


def read_clip(
    path: Path, *, start: int = 0, count: int | None = None, fps: float | Fraction | None = None
) -> Iterator[ClipFrame]:
    """The frames of a clip, of a video, or of a folder of PNG frames; only those in use are in memory.

    Args:
        path: the file or the folder.
        start: number of the first frame wanted.
        count: how many; None for all the others.
        fps: frames per second that are wanted: at each of these moments the frame that is then on show. None leaves
            the frames and times as they are. A folder that says nothing about its speed has this one.

    Raises:
        ClipError: it cannot be read, or a folder says nothing about its speed and neither do you. What is found
            out by decoding is raised while frames are taken.
        AnimateDiffError: a library that reads it is missing.
    """
    if start < 0 or (count is not None and count < 0):
        raise ClipError(f"start and count must not be below 0, not {start} and {count}.")
    if not path.exists():
        raise ClipError(f"There is no such file: {path}.")
    rate = None if fps is None else exact_fps(fps)
    timed = _with_durations(_named_errors(path, _decoded_frames(path, rate)))
    frames = timed if rate is None else _resampled(timed, rate)
    numbered = (ClipFrame(index, *frame) for index, frame in enumerate(frames))
    return islice(numbered, start, None if count is None else start + count)


Timed = tuple[Fraction, Fraction, DecodedFrame]


def _decoded_frames(path: Path, rate: Fraction | None) -> Iterator[DecodedFrame]:
    if path.is_dir():
        yield from _folder_frames(path, rate)
    elif (kind := kind_of(path)) == "video":
        yield from decode_frames(path)
    else:
        yield from _picture_frames(path, kind)


def _named_errors(path: Path, frames: Iterator[DecodedFrame]) -> Iterator[DecodedFrame]:
    """Whatever a decoder raises, as one error that names the file; what was decoded before comes first."""
    try:
        yield from frames
    except AnimateDiffError:
        raise
    except Exception as error:
        raise ClipError(f"{path} cannot be read ({plain_reason(error)}).") from error


def _with_durations(frames: Iterable[DecodedFrame]) -> Iterator[Timed]:
    """Each frame lasts until the next one; the last one for as long as it says, or as the one before."""
    held: DecodedFrame | None = None
    last = Fraction(0)
    for shown in frames:
        if held is not None:
            last = max(shown.time - held.time, Fraction(0))
            yield held.time, last, held
        held = shown
    if held is not None:
        yield held.time, last if held.duration is None else held.duration, held


def _resampled(frames: Iterator[Timed], fps: Fraction) -> Iterator[Timed]:
    """At each moment the frame that is on show; at least one."""
    index = 0
    for time, duration, shown in frames:
        while index / fps < time + duration or (index == 0 and not duration):
            yield index / fps, 1 / fps, shown
            index += 1


def _folder_frames(folder: Path, rate: Fraction | None) -> Iterator[DecodedFrame]:
    from PIL import Image

    fps = read_recipe(folder).fps or rate
    if fps is None:
        raise ClipError(f"The folder {folder} does not say how many frames a second it has. Give fps.")
    for index, file in enumerate(frame_files(folder)):
        with Image.open(file) as image:
            yield DecodedFrame(index / fps, 1 / fps, _plain(image))


def _picture_frames(path: Path, kind: str) -> Iterator[DecodedFrame]:
    from PIL import Image

    if kind == "avif":
        need_avif()
    delays = frame_delays(path) if kind == "png" else []
    time = Fraction(0)
    with Image.open(path) as image:
        length = getattr(image, "n_frames", 1)
        first = length - len(delays) if delays else 0  # an APNG may begin with an image that is not part of it
        for index in range(first, length):
            image.seek(index)
            plain = _plain(image)  # only now are the times of WebP and AVIF known
            duration = delays[index - first] if delays else _duration(path, image, length, kind)
            yield DecodedFrame(time, duration, plain)
            time += duration


def _duration(path: Path, image: Any, length: int, kind: str) -> Fraction:
    """How many seconds Pillow's present frame is shown."""
    if kind == "avif" and length == 1:  # a still image, for which Pillow makes up a second
        fps = read_recipe(path).fps
        return 1 / fps if fps else Fraction(0)
    said = Fraction(image.info.get("duration") or 0) / _MILLISECONDS
    return said or (_UNSAID if length > 1 else Fraction(0))


def _plain(image: Image) -> Image:
    """In colour; with transparency if there is any, which the mode does not tell of frames stored as differences."""
    if image.mode not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image.convert("RGB")
    plain = image.convert("RGBA")
    return plain.convert("RGB") if plain.getchannel("A").getextrema() == (255, 255) else plain
