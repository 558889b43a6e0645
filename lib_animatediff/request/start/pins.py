"""Frames of a clip that are given images (image to video, first and last frame, continued clips)."""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib_animatediff.video.fitting import CROP, FITS, Size
from lib_animatediff.video.source import Source, source_frames
from motion_module import ClipError

if TYPE_CHECKING:
    from PIL.Image import Image

STRENGTH = 1.0
INVERSION = 0.7  # measured with the built-in model, see docs/features.md
_FLAGS = ("keeps_pixels", "leads_on")  # left out of JSON where they are false
_KEY = re.compile(r"(-?\d{1,9})\s*:\s*(\S.*)", re.DOTALL)
_NEXT_KEY = re.compile(r",\s*(?=-?\d{1,9}\s*:)")


@dataclass(frozen=True)
class Pin:
    """A frame of a clip that is a given image.

    Attributes:
        frame: its number in the clip, from 0.
        path: file of the image, or a clip.
        index: the frame of the file, from 0.
    """

    frame: int
    path: Path
    index: int = 0

    def source(self, fit: str) -> Source:
        """The image as a source of one frame."""
        return Source(self.path, start=self.index, end=self.index, fit=fit)


@dataclass(frozen=True)
class PinnedFrames:
    """The pinned frames of a clip.

    Attributes:
        pins: one for each pinned frame, ascending.
        strength: share of the steps for which the images are held. At 1 a pinned frame equals its image within the
            VAE's error. Below it, the other steps change the frame with the rest of the clip.
        inversion: share of the image's inverted noise in the noise of the frame beside it; ``inversion ** d`` at a
            distance of d. At 0 all frames start from their own noise, and the clip jumps beside a pinned frame.
        fit: how an image of another size or shape fits the clip, one of `FITS`.
        keeps_pixels: the finished frames are the images, bit for bit, and not what the VAE makes of them.
        leads_on: the frames behind the first pinned ones begin where the movement of these goes on, as in a clip that
            continues another one.

    Raises:
        ClipError: a value is out of range, there is no pin, or a frame has two images.
    """

    pins: tuple[Pin, ...]
    strength: float = STRENGTH
    inversion: float = INVERSION
    fit: str = CROP
    keeps_pixels: bool = False
    leads_on: bool = False

    def __post_init__(self) -> None:
        frames = [pin.frame for pin in self.pins]
        if not frames or min(frames) < 0:
            raise ClipError("Pinned frames need at least one image, at a frame of 0 or later.", code="AD-C70")
        if len(set(frames)) < len(frames):
            twice = next(frame for frame in frames if frames.count(frame) > 1)
            raise ClipError(f"Frame {twice} has two images. Remove one of them.", code="AD-C71")
        if not (math.isfinite(self.strength) and 0 < self.strength <= 1):
            raise ClipError(
                f"The strength of pinned frames must be above 0, up to 1, not {self.strength}.", code="AD-C72"
            )
        if not (math.isfinite(self.inversion) and 0 <= self.inversion < 1):
            raise ClipError(
                f"The inversion of pinned frames must be from 0 to below 1, not {self.inversion}.", code="AD-C73"
            )
        if self.fit not in FITS:
            raise ClipError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}.", code="AD-C74")
        object.__setattr__(self, "pins", tuple(sorted(self.pins, key=lambda pin: pin.frame)))

    @property
    def frames(self) -> list[int]:
        """The numbers of the pinned frames, ascending."""
        return [pin.frame for pin in self.pins]

    def within(self, frames: int) -> PinnedFrames | None:
        """The pins of the first frames, which a preview renders; None if there are none."""
        inside = tuple(pin for pin in self.pins if pin.frame < frames)
        return replace(self, pins=inside) if inside else None

    def series(self) -> Iterator[tuple[Source, list[int]]]:
        """The images as few sources as possible, each with the frames that are its images: a clip is read once."""
        run: list[Pin] = []
        for pin in (*self.pins, None):
            if run and (pin is None or (pin.path, pin.index) != (run[-1].path, run[-1].index + 1)):
                source = Source(run[0].path, start=run[0].index, end=run[-1].index, fit=self.fit)
                yield source, [each.frame for each in run]
                run = []
            if pin is not None:
                run.append(pin)

    def images(self, size: Size) -> Iterator[Image]:
        """The image of each pinned frame in the size of the clip, read one by one.

        Raises:
            ClipError: while they are read: a file was changed since it was examined.
        """
        for source, frames in self.series():
            yield from source_frames(source, size, len(frames))

    def lenders(self, frames: int) -> list[int]:
        """The places in `pins` of those whose inverted noise others share, in a clip of so many frames.

        Of a clip that is kept these are the ones beside another frame, also over the end of a loop.
        """
        if not self.keeps_pixels:
            return list(range(len(self.pins)))
        pinned = set(self.frames)
        neighbours = [{(frame - 1) % frames, (frame + 1) % frames} for frame in self.frames]
        return [place for place, beside in enumerate(neighbours) if beside - pinned]

    def first_other(self, frames: int) -> int:
        """The first frame that is not pinned, which shows whether a clip is the same; 0 if all are."""
        return next((frame for frame in range(frames) if frame not in self.frames), 0)

    def borders(self, frames: int) -> list[int]:
        """The frames at which the clip goes from a pinned frame to another one or back."""
        pinned = set(self.frames)
        return [frame for frame in range(1, frames) if (frame in pinned) != (frame - 1 in pinned)]

    def check_inside(self, frames: int) -> None:
        """Check that the clip has all pinned frames.

        Raises:
            ClipError: it is too short.
        """
        last = self.pins[-1]
        if last.frame >= frames:
            raise ClipError(
                f"There is no frame {last.frame} for {last.path.name}: the clip has {frames} frames, 0 to "
                f"{frames - 1}. Choose an earlier frame, or render more frames.",
                code="AD-C75",
            )

    def to_json(self, named: Callable[[Path], Mapping[str, Any]] = lambda path: {"path": str(path)}) -> dict[str, Any]:
        """Itself as JSON values.

        Args:
            named: what is written of a file.
        """
        files = {path: named(path) for path in dict.fromkeys(pin.path for pin in self.pins)}
        frames = [{"frame": pin.frame, "index": pin.index, **files[pin.path]} for pin in self.pins]
        flags = {name: True for name in _FLAGS if getattr(self, name)}
        return {"frames": frames, "strength": self.strength, "inversion": self.inversion, "fit": self.fit, **flags}


def pins_from_json(data: Any, find: Callable[[Any], Path]) -> PinnedFrames:
    """The pinned frames that `PinnedFrames.to_json` wrote; the values may come from anyone.

    Args:
        find: the path of a file from its entry.

    Raises:
        ClipError: a value is missing, or has the wrong type or range.
    """
    data = _checked(data, dict, "pinned frames")
    pins = [_pin(_checked(entry, dict, "frames"), find) for entry in _checked(data.get("frames"), list, "frames")]
    return PinnedFrames(
        tuple(pins),
        float(_checked(data.get("strength"), (int, float), "strength")),
        float(_checked(data.get("inversion"), (int, float), "inversion")),
        _checked(data.get("fit"), str, "fit"),
        **{name: data.get(name) is True for name in _FLAGS},
    )


def _pin(entry: Mapping[str, Any], find: Callable[[Any], Path]) -> Pin:
    return Pin(_checked(entry.get("frame"), int, "frame"), find(entry), _checked(entry.get("index"), int, "index"))


def path_in(entry: Any) -> Path:
    """The path in an entry of a plan."""
    return Path(_checked(entry.get("path"), str, "path"))


def in_words(pins: PinnedFrames) -> str:
    """The pinned frames for an infotext, such as ``0: a.png, 15: b.png``; of a clip that is kept, ``0-7: a.gif``."""
    if pins.keeps_pixels:
        parts = ((f"{frames[0]}-{frames[-1]}", source) for source, frames in pins.series())
        return ", ".join(f"{frames}: {source.name}" for frames, source in parts)
    return keys_in_words(pins.pins)


def keys_in_words(keys: Sequence[Pin]) -> str:
    """Images at frames for an infotext, such as ``0: a.png, 15: b.png``."""
    return ", ".join(f"{key.frame}: {key.path.name}" for key in keys)


def parse_keys(text: str, name: str = "key_images") -> list[tuple[int, str]]:
    """Frames with the paths of their images, from a text such as ``8: a.png, -1: b.png``. Paths may contain commas.

    Args:
        name: of the setting, for messages.

    Raises:
        ClipError: an entry has no frame, or no path.
    """
    entries = _NEXT_KEY.split(text.strip()) if text.strip() else []
    found = [_KEY.fullmatch(entry.strip()) for entry in entries]
    if wrong := next((entry for entry, match in zip(entries, found, strict=True) if match is None), None):
        raise ClipError(
            f"{name}: {reprlib.repr(wrong)} is not a frame with an image. Write frames and paths, such as "
            "8: in/a.png, 12: in/b.png.",
            code="AD-S20",
        )
    return [(int(match[1]), match[2].strip()) for match in found if match is not None]


def _checked(value: Any, kind: Any, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ClipError(
            f"The pinned frames are damaged: {name} is {value!r:.40}. Use the original file of the clip.",
            code="AD-C76",
        )
    return value
