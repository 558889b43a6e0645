"""A clip that starts from latents in which one or two images fade, as the existing extension's image to video."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from lib_animatediff.sampling.image_start import LatentRamp
from lib_animatediff.video.fitting import CROP, FITS
from lib_animatediff.video.source import Source
from motion_module import ClipError

from .video import DENOISE


@dataclass(frozen=True)
class ImageRamp:
    """How the init image and an image of the last frame fade in the initial latents, see `sampling.image_start`.

    Attributes:
        first: of the init image.
        last: of the last frame's image.
        last_image: its file; None: there is none.
        image: file of the init image; None: the host has it.
        denoise: denoising strength of the latents, 0 to 1, as in image to image; not used where the host has its own.
        fit: how an image of another shape fits the clip, one of `FITS`; not used where the host has its own.

    Raises:
        ClipError: a value is out of range.
    """

    least_steps: ClassVar[int] = 0
    begins_noised: ClassVar[bool] = True  # at full strength the image is under the noise, as in image to image
    inversion: ClassVar[float] = 0.0

    first: LatentRamp
    last: LatentRamp
    last_image: Path | None = None
    image: Path | None = None
    denoise: float = DENOISE
    fit: str = CROP

    def __post_init__(self) -> None:
        if not (math.isfinite(self.denoise) and 0 <= self.denoise <= 1):
            raise ClipError(
                f"The denoising strength of a ramp must be between 0 and 1, not {self.denoise}.", code="AD-C53"
            )
        if self.fit not in FITS:
            raise ClipError(f"fit must be one of {', '.join(FITS)}, not {self.fit!r}.", code="AD-C54")

    def sources(self) -> list[Source]:
        """The files of the images, first and last, as sources of one frame."""
        return [Source(path, end=0, fit=self.fit) for path in (self.image, self.last_image) if path is not None]

    def strengths(self, frames: int) -> tuple[float, ...]:
        """The denoising strength of each frame."""
        return (self.denoise,) * frames

    def skipped(self, steps: int) -> int:
        """How many of the sampling steps are left out, as diffusers' image to image counts them."""
        return steps - min(int(steps * self.denoise), steps)

    def to_json(self, named: Callable[[Path], Mapping[str, Any]] = lambda path: {"path": str(path)}) -> dict[str, Any]:
        """Itself as JSON values.

        Args:
            named: what is written of a file.
        """
        files = {"image": self.image, "last_frame": self.last_image}
        return {
            **self.values(),
            **{name: named(path) for name, path in files.items() if path is not None},
            "denoise": self.denoise,
            "fit": self.fit,
        }

    def values(self) -> dict[str, Any]:
        """The values of its settings."""
        return {
            "latent_power": self.first.power,
            "latent_scale": self.first.scale,
            "latent_power_last": self.last.power,
            "latent_scale_last": self.last.scale,
        }


def ramp_from_json(data: Any, find: Callable[[Any], Path]) -> ImageRamp:
    """The ramp that `ImageRamp.to_json` wrote; the values may come from anyone.

    Args:
        find: the path of a file from its entry.

    Raises:
        ClipError: a value is missing, or has the wrong type or range.
    """
    data = _checked(data, dict, "ramp")
    first, last = (
        LatentRamp(*(float(_checked(data.get(name + suffix), (int, float), name)) for name in _NAMES))
        for suffix in ("", "_last")
    )
    image, last_image = (
        None if data.get(name) is None else find(_checked(data[name], dict, name)) for name in ("image", "last_frame")
    )
    denoise = float(_checked(data.get("denoise"), (int, float), "denoise"))
    return ImageRamp(first, last, last_image, image, denoise, _checked(data.get("fit"), str, "fit"))


_NAMES = ("latent_power", "latent_scale")


def _checked(value: Any, kind: Any, name: str) -> Any:
    if isinstance(value, bool) or not isinstance(value, kind):
        raise ClipError(
            f"The ramp is damaged: {name} is {value!r:.40}. Use the original file of the clip.", code="AD-C55"
        )
    return value
