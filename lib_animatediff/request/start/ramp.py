"""A clip that starts from latents in which one or two images fade, as the existing extension's image to video."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lib_animatediff.sampling.image_start import LatentRamp


@dataclass(frozen=True)
class ImageRamp:
    """How the init image and an image of the last frame fade in the initial latents, see `sampling.image_start`.

    Attributes:
        first: of the init image.
        last: of the last frame's image.
        last_image: its file; None: there is none.
    """

    first: LatentRamp
    last: LatentRamp
    last_image: Path | None = None
