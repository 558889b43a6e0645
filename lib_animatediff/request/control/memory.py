"""How much memory the models need that images or a camera steer a clip with, beside the checkpoint and motion module.

Counted are their weights, and what they hold while the UNet runs. Their own activations are gone by then.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from lib_animatediff.engine.components.camera_ctrl import WINDOWS_KEPT

SPARSE, CAMERA, I2V = "SparseCtrl", "the camera", "AnimateLCM-I2V"

_LATENT = 8  # image pixels per latent pixel, in each direction
_GIB = 2**30

# Skip connections and middle of Stable Diffusion 1.5, to which a SparseCtrl encoder adds: channels, and latent pixels
# per pixel in each direction.
_RESIDUALS = ((320, 1),) * 3 + ((320, 2),) + ((640, 2),) * 2 + ((640, 4),) + ((1280, 4),) * 2 + ((1280, 8),) * 4
_FEATURES = ((320, 1), (640, 2), (1280, 4), (1280, 8))  # of an image or a camera, one at each resolution

Size = tuple[int, int]


@dataclass(frozen=True)
class Calls:
    """The calls of the UNet for a clip.

    Attributes:
        rows: of the largest call: frames of all clips and streams.
        frames: of a context window.
        windows: in the clip.
        size: width and height in pixels.
    """

    rows: int
    frames: int
    windows: int
    size: Size


@dataclass(frozen=True)
class Steering:
    """A model that images or a camera steer a clip with.

    Attributes:
        kind: `SPARSE`, `CAMERA` or `I2V`.
        weights: their number, without those that belong to the motion module's file.
    """

    kind: str
    weights: int

    def held(self, calls: Calls) -> int:
        """The numbers that it holds beside its weights."""
        return _HELD[self.kind](calls)

    def numbers(self, calls: Calls) -> int:
        """All of its numbers."""
        return self.weights + self.held(calls)

    def sentence(self, name: str, calls: Calls, number_bytes: int) -> str:
        """A sentence about its memory.

        Args:
            name: of its file.
            number_bytes: bytes of a number.
        """
        own, held = in_gigabytes(self.weights * number_bytes), in_gigabytes(self.held(calls) * number_bytes)
        what = "in each UNet call" if self.kind == SPARSE else "for its features"
        return f"{name} needs about {own} of memory for its weights, and {held} {what}."


def residuals_per_row(size: Size) -> int:
    """Numbers that a SparseCtrl encoder adds to a frame of this width and height in pixels."""
    return _numbers(_RESIDUALS, size)


def features_per_frame(size: Size) -> int:
    """Numbers in the features of a frame, at all resolutions."""
    return _numbers(_FEATURES, size)


def in_gigabytes(size: int) -> str:
    """A size in units of 2**30 bytes, written as GB like the memory of graphics cards."""
    return f"{max(size / _GIB, 0.1):.1f} GB"


_HELD: dict[str, Callable[[Calls], int]] = {
    SPARSE: lambda calls: calls.rows * residuals_per_row(calls.size),  # streams have texts of their own
    CAMERA: lambda calls: min(calls.windows, WINDOWS_KEPT) * calls.frames * features_per_frame(calls.size),
    I2V: lambda calls: calls.frames * features_per_frame(calls.size),  # the same in all windows
}


def _numbers(layers: tuple[tuple[int, int], ...], size: Size) -> int:
    sides = [side // _LATENT for side in size]
    return sum(channels * math.prod(math.ceil(side / scale) for side in sides) for channels, scale in layers)
