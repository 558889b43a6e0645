"""A video or a series of images as the source of a clip: which frames of it, at which rate, in which size.

A source is examined before anything is rendered, so that a damaged one is refused at once. Then its frames are read
again, one by one; neither pass keeps them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import ClipError
from motion_module.limits import VIDEO_BYTES, VIDEO_FRAMES, exists, is_file

from .decode_video import stated_end
from .fitting import CROP, FITS, Size, fitted
from .metadata import kind_of
from .reader import ClipFrame, Timed, resampled, series_rate, timed_frames
from .series import deep_format, is_pattern, is_series
from .timing import exact_fps

if TYPE_CHECKING:
    from PIL.Image import Image

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/{1,2}[^/]")  # a drive has one letter
_TICK = Fraction(1, 100)  # seconds; of GIF, the coarsest format
_MISSING = Fraction(1, 4)  # seconds; writers round less than that, and a damaged part of WebM takes more
_USUAL_FPS = Fraction(8)  # of a series that states no rate: what motion modules were trained on
_USUAL_RATES = (*range(1, 121), *(Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120)))


@dataclass(frozen=True)
class Source:
    """Which frames of a video, an animation or a series of images a clip starts from.

    Attributes:
        path: a file, a folder, or a pattern of file names.
        start, end: the first and the last frame, counted from 0 as they are stored; None: up to the last one.
        fps: take the frame that is visible at each multiple of 1 / fps seconds; None: every frame. Also the rate of a
            series of images, which is otherwise what its first image states, or 8.
        every: then take every n-th frame only.
        fit: how a frame of another size or shape fits the clip, one of `FITS`.

    Raises:
        ClipError: a value is out of range, or the path is an address.
    """

    path: Path
    start: int = 0
    end: int | None = None
    every: int = 1
    fps: float | None = None
    fit: str = CROP

    def __post_init__(self) -> None:
        if _ADDRESS.match(str(self.path)):
            raise ClipError(f"{self.path} is an address. Download the video, and give the file.", code="AD-V54")
        if self.start < 0 or (self.end is not None and self.end < self.start) or self.every < 1:
            raise ClipError(
                f"Frames {self.start} to {'the last' if self.end is None else self.end}, every {self.every}, are no "
                "part of a video. Frames count from 0, the last one is not before the first, and every is 1 or more.",
                code="AD-V55",
            )
        if self.fit not in FITS:
            raise ClipError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}.", code="AD-V56")
        if self.fps is not None:
            exact_fps(self.fps)

    @property
    def name(self) -> str:
        """Name of the file, the folder or the pattern, without the path."""
        return self.path.name


@dataclass(frozen=True)
class SourceFacts:
    """What the chosen frames of a source are.

    Attributes:
        frames: their number.
        fps: the constant rate at which they take as long as in the source.
        size: width and height of the first one, upright.
        start: when the first one appears, in seconds since the first frame of the file.
        varies: whether the source shows them for different times, which a constant rate does not keep.
    """

    frames: int
    fps: Fraction
    size: Size
    start: Fraction
    varies: bool

    @property
    def duration(self) -> Fraction:
        """In seconds."""
        return self.frames / self.fps


def examine(source: Source, *, frames: int = 0, most: int = VIDEO_FRAMES) -> SourceFacts:
    """Read the chosen frames once, and refuse what would fail later.

    Args:
        frames: how many of them the clip takes, the first ones; 0: all.
        most: how many a clip can have.

    Raises:
        ClipError: the source is missing or damaged, has too many frames, ends before those that were asked for, has
            frames of different sizes, or is too large.
        AnimateDiffError: a library for the format is missing.
    """
    _check_file(source)
    times: list[Fraction] = []
    durations: list[Fraction] = []
    begin, size = Fraction(0), (0, 0)
    for number, (offset, frame) in enumerate(islice(_chosen(source), frames or most + 1)):
        if number == 0:
            begin, size = offset, frame.image.size
        times.append(frame.time)
        durations.append(frame.duration)
    if len(times) < max(frames, 1):
        raise ClipError(
            f"{source.name} gives {len(times)} frames with this start and end, but {max(frames, 1)} are needed. "
            "Lower the number of frames, or choose another part.",
            code="AD-V57",
        )
    if len(times) > most:
        raise ClipError(
            f"This part of {source.name} has more than {most} frames. Set the last frame, or take every n-th one.",
            code="AD-V65",
        )
    fps, varies = _rate(source, times, durations)
    return SourceFacts(len(times), fps, size, begin, varies)


def count_frames(source: Source, most: int) -> int:
    """How many frames a source has, counted up to ``most``.

    Raises:
        ClipError: the source is missing or damaged, or its frames have different sizes.
        AnimateDiffError: a library for the format is missing.
    """
    _check_file(source)
    return sum(1 for _ in islice(_chosen(source), most))


def source_frames(source: Source, size: Size, frames: int) -> Iterator[Image]:
    """The first ``frames`` frames of a source in the size of the clip, RGB or RGBA, read one by one.

    Raises:
        ClipError: while frames are read: the file was changed since it was examined.
    """
    number = 0
    for image in islice(chosen_images(source), frames):
        yield fitted(image, size, source.fit)
        number += 1
    if number < frames:
        raise ClipError(
            f"{source.name} has changed: only {number} of {frames} frames can be read now. Render again.", code="AD-V58"
        )


def chosen_images(source: Source) -> Iterator[Image]:
    """The chosen frames of a source in their own size, RGB or RGBA, read one by one."""
    return (frame.image for _, frame in _chosen(source))


def over_white(image: Image) -> Image:
    """An image without transparency, as it looks on a white page."""
    from PIL import Image as PillowImage

    if image.mode != "RGBA":
        return image
    page = PillowImage.new("RGBA", image.size, "white")
    return PillowImage.alpha_composite(page, image).convert("RGB")


def _check_file(source: Source) -> None:
    path = source.path
    if not exists(path) and not is_pattern(path):
        raise ClipError(f"There is no video {path}. Check the path.", code="AD-V59")
    if is_file(path) and path.stat().st_size >= VIDEO_BYTES:
        raise ClipError(
            f"{path} has {path.stat().st_size / 10**9:.1f} GB, more than {VIDEO_BYTES // 10**9} GB. Cut the part that "
            "you need into a file of its own.",
            code="AD-V60",
        )


def _chosen(source: Source) -> Iterator[tuple[Fraction, ClipFrame]]:
    """The chosen frames, timed from the first one, each with the time of the first one in the file."""
    own_rate = exact_fps(source.fps or _USUAL_FPS) if is_series(source.path) else None
    stored = _of_one_size(source, timed_frames(source.path, own_rate))
    part = _part(source, stored)
    first = next(part)
    begin = first[0]
    frames: Iterator[Timed] = ((time - begin, length, shown) for time, length, shown in chain([first], part))
    if source.fps is not None and own_rate is None:
        frames = resampled(frames, exact_fps(source.fps))
    for index, timed in enumerate(islice(frames, 0, None, source.every)):
        yield begin, ClipFrame(index, *timed)


def _part(source: Source, stored: Iterator[Timed]) -> Iterator[Timed]:
    """The frames from the first to the last one that were asked for, which must be there."""
    number, timed = -1, None
    for number, timed in enumerate(stored):
        if number >= source.start:
            yield timed
        if number == source.end:
            return
    if timed is not None:
        _check_end(source, number + 1, timed[0] + timed[1])
    missing = source.start if number < source.start else source.end
    if missing is not None:
        raise ClipError(
            f"{source.name} has {number + 1} frames, 0 to {number}, so there is no frame {missing}. Lower the first or "
            "the last frame.",
            code="AD-V61",
        )


def _check_end(source: Source, frames: int, end: Fraction) -> None:
    if is_series(source.path) or kind_of(source.path) != "video" or deep_format(source.path):
        return
    stated = stated_end(source.path)
    if stated is not None and stated - end > _MISSING:
        raise ClipError(
            f"{source.name} ends early: {frames} frames or {float(end):.1f} of {float(stated):.1f} seconds can be "
            "read. Get the whole file, or choose its first part.",
            code="AD-V63",
        )


def _of_one_size(source: Source, frames: Iterable[Timed]) -> Iterator[Timed]:
    size = None
    for number, timed in enumerate(frames):
        own = timed[2].stored_size
        size = size or own
        if own != size:
            raise ClipError(
                f"Frame {number} of {source.name} has {own[0]}x{own[1]} pixels, and earlier ones {size[0]}x{size[1]}. "
                "Give all frames the same size first.",
                code="AD-V62",
            )
        yield timed


def _rate(source: Source, times: list[Fraction], durations: list[Fraction]) -> tuple[Fraction, bool]:
    """The clip's rate, and whether the source's own times differ from it."""
    if source.fps is not None:
        return exact_fps(source.fps) / source.every, False
    if is_series(source.path):
        return (series_rate(source.path) or _USUAL_FPS) / source.every, False
    last = durations[-1] if source.every == 1 or len(times) == 1 else times[-1] - times[-2]
    whole = times[-1] + last
    if not whole:  # a still image
        return _USUAL_FPS, False
    mean = len(times) / whole
    exact = next((rate for rate in _usual(mean) if _keeps(rate, times, whole)), None)
    uneven = any(abs(time - index / mean) > _TICK for index, time in enumerate(times))
    return exact or mean, exact is None and uneven


def _usual(mean: Fraction) -> Iterator[Fraction]:
    """Rates that a source may have, which stores its times in ticks: the nearest first."""
    return iter(sorted((Fraction(rate) for rate in _USUAL_RATES), key=lambda rate: abs(rate - mean))[:3])


def _keeps(rate: Fraction, times: list[Fraction], whole: Fraction) -> bool:
    """Whether every time is that of a constant rate, to half a millisecond, the tick of WebM and WebP."""
    half = Fraction(1, 2000)
    edges = (*times, whole)
    return all(abs(time - index / rate) <= half for index, time in enumerate(edges))
