"""What a writer gets: frames that make a clip, how they play, and what is to be known about them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from typing import TYPE_CHECKING

from motion_module import ClipError

from .recipe import Recipe

if TYPE_CHECKING:
    from PIL.Image import Image

PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")
_CHOICES = {"palette": ("clip", "frame"), "odd_sizes": ("pad", "scale"), "preset": PRESETS}
_LIMITS = {"quality": (0, 100), "mp4_crf": (0, 51), "webm_crf": (0, 63)}


@dataclass(frozen=True)
class Encoding:
    """How the formats spend their bytes; each one takes what concerns it.

    Attributes:
        palette: GIF: 256 colours for the whole ``clip``, or for each ``frame``, which may flicker.
        dither: GIF: mix colours that are not among the 256 out of those that are.
        quality: WebP, AVIF: 0 to 100; how many details are kept.
        lossless: WebP: keep every pixel as it is; ``quality`` is then the effort.
        mp4_crf: MP4: 0 to 51; less is better and larger, 18 looks like the original.
        webm_crf: WebM: 0 to 63; less is better and larger.
        preset: MP4: how long the encoder searches; slower is smaller.
        odd_sizes: MP4 takes even sizes only: ``pad`` repeats the last row or column, ``scale`` enlarges the image.

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
                raise ClipError(f"{name} must be one of {', '.join(_CHOICES[name])}, not {value!r}.")
            if name in _LIMITS and not _LIMITS[name][0] <= value <= _LIMITS[name][1]:
                raise ClipError(f"{name} must be between {_LIMITS[name][0]} and {_LIMITS[name][1]}, not {value}.")


@dataclass(frozen=True)
class EncoderInput:
    """A clip that is to be written.

    Attributes:
        frames: images of one size.
        fps: frames per second.
        loop_count: how often it plays; 0 for ever.
        recipe: what made it; None leaves nothing about it in the file.
        encoding: see `Encoding`.
    """

    frames: Sequence[Image]
    fps: Fraction
    loop_count: int
    recipe: Recipe | None
    encoding: Encoding

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.frames[0].size

    @property
    def infotext(self) -> str:
        """The recipe's text; empty where nothing is to be said."""
        return self.recipe.infotext if self.recipe else ""

    @property
    def block(self) -> str:
        """The recipe's JSON block; empty where nothing is to be said."""
        return self.recipe.block(self.fps, self.loop_count) if self.recipe else ""

    def in_colour(self) -> Iterator[Image]:
        """The frames without transparency, one by one."""
        return (_in_mode(frame, "RGB") for frame in self.frames)

    def with_alpha(self) -> Iterator[Image]:
        """The frames one by one, all transparent in places or none."""
        mode = "RGBA" if any(_has_alpha(frame) for frame in self.frames) else "RGB"
        return (_in_mode(frame, mode) for frame in self.frames)


def check_frames(frames: Sequence[Image]) -> None:
    """Look whether images make a clip.

    Raises:
        ClipError: there are none, or they differ in size.
    """
    if not frames:
        raise ClipError("There are no frames to write.")
    if len({frame.size for frame in frames}) > 1:
        raise ClipError(f"The frames of a clip must have one size, not {sorted({frame.size for frame in frames})}.")


def _in_mode(frame: Image, mode: str) -> Image:
    return frame if frame.mode == mode else frame.convert(mode)  # Pillow would copy it


def _has_alpha(frame: Image) -> bool:
    return frame.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in frame.info
