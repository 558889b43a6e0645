"""A clip that starts from the frames of a video instead of noise alone (video to video)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, ClassVar

from lib_animatediff.video.mask import VideoMask
from lib_animatediff.video.source import Source
from motion_module import ClipError

DENOISE = 0.6


@dataclass(frozen=True)
class VideoStart:
    """The frames that a clip starts from, and how much of them is replaced.

    Attributes:
        source: frame i of the clip starts from its frame i.
        denoise: denoising strength, 0 to 1: 0 keeps the frames, 1 is a clip from the prompt alone. Several numbers are
            those of the frames, and the last one is that of all later frames.
        mask: the parts of the frames that may change; None: all.
        inversion: share of the frames' own noise, which DDIM inversion finds, in the variance of the noise that they
            start from; the rest is random. At 1 the clip moves as the video does, also at full strength.

    Raises:
        ClipError: a strength or a share is out of range, or there is no strength.
    """

    least_steps: ClassVar[int] = 0  # as in image to image, of which a low strength leaves the frames as they are

    source: Source
    denoise: float | tuple[float, ...] = DENOISE
    mask: VideoMask | None = None
    inversion: float = 0.0

    def __post_init__(self) -> None:
        if not self._strengths or any(not math.isfinite(one) or not 0 <= one <= 1 for one in self._strengths):
            raise ClipError(f"denoise must be between 0 and 1, not {self.denoise}.", code="AD-C50")
        if not (math.isfinite(self.inversion) and 0 <= self.inversion <= 1):
            raise ClipError(
                f"The inversion of a source video must be between 0 and 1, not {self.inversion}.", code="AD-C52"
            )

    @property
    def is_used(self) -> bool:
        """Whether anything of the video is left."""
        return min(self._strengths) < 1 or self.mask is not None or self.begins_noised

    @property
    def begins_noised(self) -> bool:
        """Whether the video decides about the noise at full strength, too."""
        return self.inversion > 0

    @property
    def strongest(self) -> float:
        """The highest strength, at which the sampler begins."""
        return max(self._strengths)

    def strengths(self, frames: int) -> tuple[float, ...]:
        """The strength of each of the first frames."""
        given = self._strengths
        return (given + given[-1:] * (frames - len(given)))[:frames]

    def skipped(self, steps: int) -> int:
        """How many of the sampling steps are left out, as diffusers' image to image counts them."""
        return steps - min(int(steps * self.strongest), steps)

    def to_json(self, named: Callable[[Path], Mapping[str, Any]] = lambda path: {"path": str(path)}) -> dict[str, Any]:
        """Itself as JSON values.

        Args:
            named: what is written of a file.
        """
        source = {name: value for name, value in asdict(self.source).items() if name != "path"}
        denoise = list(self.denoise) if isinstance(self.denoise, tuple) else self.denoise
        inversion = {"inversion": self.inversion} if self.inversion else {}
        values = {**source, **named(self.source.path), "denoise": denoise, **inversion}
        if self.mask is None:
            return values
        file = {} if self.mask.path is None else named(self.mask.path)
        return {**values, "mask": {**file, "invert": self.mask.invert, "feather": self.mask.feather}}

    @property
    def _strengths(self) -> tuple[float, ...]:
        return self.denoise if isinstance(self.denoise, tuple) else (self.denoise,)


def video_start_from_json(data: Mapping[str, Any], find: Callable[[Mapping[str, Any]], Path]) -> VideoStart:
    """The start that `VideoStart.to_json` wrote; the values may come from anyone.

    Args:
        find: the path of a file from its entry.

    Raises:
        ClipError: a value is missing, or has the wrong type or range.
    """
    number = (int, float)
    given = data.get("denoise")
    denoise = tuple(map(float, _each(given, number, "denoise"))) if isinstance(given, list) else None
    return VideoStart(
        Source(
            find(data),
            start=_read(data, "start", (int,)),
            end=_read(data, "end", (int, type(None))),
            every=_read(data, "every", (int,)),
            fps=_read(data, "fps", (*number, type(None))),
            fit=_read(data, "fit", (str,)),
        ),
        float(_read(data, "denoise", number)) if denoise is None else denoise,
        None if data.get("mask") is None else _mask(_read(data, "mask", (dict,)), find),
        float(_read({"inversion": 0.0, **data}, "inversion", number)),
    )


def _mask(data: Mapping[str, Any], find: Callable[[Mapping[str, Any]], Path]) -> VideoMask:
    has_file = bool(set(data) - {"invert", "feather"})
    invert = data.get("invert")
    if not isinstance(invert, bool):
        raise _damaged("invert", invert)
    return VideoMask(find(data) if has_file else None, invert, _read(data, "feather", (int,)))


def _read(data: Mapping[str, Any], name: str, kinds: tuple[type, ...]) -> Any:
    return _each([data.get(name)], kinds, name)[0]


def _each(values: list[Any], kinds: tuple[type, ...], name: str) -> list[Any]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, kinds):
            raise _damaged(name, value)
    return values


def _damaged(name: str, value: Any) -> ClipError:
    return ClipError(
        f"The source video's {name} is damaged: {value!r:.40}. Use the original file of the clip.", code="AD-C51"
    )
