"""Encoder options, and the input of every encoder: frames, playback and recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from motion_module import ClipError

from .recipe import Recipe
from .sound import Sound
from .spool import SpooledFrames

if TYPE_CHECKING:
    from PIL.Image import Image

_Item = TypeVar("_Item")

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_CHOICES = {"palette": ("clip", "frame"), "odd_sizes": ("pad", "scale"), "preset": PRESETS}
_LIMITS = {"quality": (0, 100), "mp4_crf": (0, 51), "webm_crf": (0, 63)}


@dataclass(frozen=True)
class Encoding:
    """Encoder options. Each format uses those that concern it.

    Attributes:
        palette: GIF: 256 colours for the whole ``clip``, or per ``frame``, which may flicker.
        dither: GIF: approximate missing colours by dithering.
        quality: WebP, AVIF: 0 to 100, higher preserves more detail.
        lossless: WebP: preserve every pixel; ``quality`` then sets the compression effort.
        mp4_crf: MP4: 0 to 51, lower is better and larger; 18 is visually lossless.
        webm_crf: WebM: 0 to 63, lower is better and larger.
        preset: MP4: encoding speed; slower gives smaller files.
        odd_sizes: MP4 requires even sizes: ``pad`` repeats the last row or column, ``scale`` resizes the frames.

    Raises:
        ClipError: a value is out of range.
    """

    palette: str = "clip"
    dither: bool = True
    quality: int = 90
    lossless: bool = False
    mp4_crf: int = 18
    webm_crf: int = 24
    preset: str = "medium"
    odd_sizes: str = "pad"

    def __post_init__(self) -> None:
        for field in fields(self):
            name, value = field.name, getattr(self, field.name)
            if name in _CHOICES and value not in _CHOICES[name]:
                raise ClipError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}.", code="AD-V03")
            if name in _LIMITS and not _LIMITS[name][0] <= value <= _LIMITS[name][1]:
                raise ClipError(
                    f"{name} must be from {_LIMITS[name][0]} to {_LIMITS[name][1]}, not {value}.", code="AD-V04"
                )


class StopWriting(Exception):  # noqa: N818 - it is raised by the caller's own wish
    """Raised by a caller's ``progress`` to end `write_clip`. The file under way is removed.

    Attributes:
        written: the files that were complete by then.
    """

    def __init__(self) -> None:
        super().__init__("Writing was stopped.")
        self.written: list[Path] = []


@dataclass(frozen=True)
class EncoderInput:
    """A clip to encode.

    Attributes:
        frames: images of one size.
        fps: frames per second.
        loop_count: number of times the clip plays; 0 for infinite.
        recipe: recipe to embed; None for none.
        encoding: encoder options.
        progress: called with the number of encoded frames and of all frames; an exception from it ends the encoder.
        sound: for the formats that have any.
    """

    frames: Sequence[Image]
    fps: Fraction
    loop_count: int
    recipe: Recipe | None
    encoding: Encoding
    progress: Callable[[int, int], None] | None = None
    sound: Sound | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames[0].size

    @property
    def infotext(self) -> str:
        """The recipe's infotext; empty without a recipe."""
        return self.recipe.infotext if self.recipe else ""

    @property
    def block(self) -> str:
        """The recipe's JSON block; empty without a recipe."""
        return self.recipe.block(self.fps, self.loop_count) if self.recipe else ""

    def note(self, done: int) -> None:
        """Report the number of encoded frames."""
        if self.progress is not None:
            self.progress(done, len(self.frames))

    def counted(self, images: Iterable[_Item]) -> Iterator[_Item]:
        """Yield one image per frame, and report each as encoded when the next one is asked for."""
        for done, image in enumerate(images, 1):
            yield image
            self.note(done)

    def in_colour(self) -> Iterator[Image]:
        """Yield the frames without transparency."""
        return (_in_mode(frame, "RGB") for frame in self.frames)

    def with_alpha(self) -> Iterator[Image]:
        """Yield the frames: all with transparency if any has it, otherwise all without."""
        mode = channels_of(self.frames)
        return (_in_mode(frame, mode) for frame in self.frames)


def channels_of(frames: Sequence[Image]) -> str:
    """Pillow's mode for a clip: RGBA if any frame has transparency, otherwise RGB. Makes no frame."""
    if isinstance(frames, SpooledFrames):
        return frames.mode
    return "RGBA" if any(map(_has_alpha, frames)) else "RGB"


def check_frames(frames: Sequence[Image]) -> None:
    """Check that images make a clip.

    Raises:
        ClipError: there are none, or their sizes differ.
    """
    if not frames:
        raise ClipError("There are no frames to write. Render or load some first.", code="AD-V05")
    if isinstance(frames, SpooledFrames):  # of one size; to look at each would make them all
        return
    if len({frame.size for frame in frames}) > 1:
        sizes = sorted({frame.size for frame in frames})
        raise ClipError(f"All frames of a clip must have the same size, not {sizes}.", code="AD-V06")


def _in_mode(frame: Image, mode: str) -> Image:
    return frame if frame.mode == mode else frame.convert(mode)  # Pillow would copy it


def _has_alpha(frame: Image) -> bool:
    return frame.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in frame.info
