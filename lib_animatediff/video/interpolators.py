"""Which interpolator makes the frames in between: DIS flow, RIFE, or for each pair of frames the one that suits it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from .rife_file import load_rife

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from .in_between import InBetween

    Image = NDArray[np.uint8]  # h w c, whose first three channels are RGB

AUTO, DIS, RIFE = "auto", "dis", "rife"


class Pair(Protocol):
    """Two neighbouring images."""

    def at(self, share: float) -> Image:
        """The image at a share of the time from the first to the second, above 0 and below 1."""


@dataclass(frozen=True)
class Interpolator:
    """The interpolator of a clip.

    Attributes:
        weights: file of RIFE; None: DIS alone.
        everywhere: whether RIFE makes all frames, and not only those in fast motion.
    """

    weights: Path | None = None
    everywhere: bool = False

    def pair(self, before: Image, after: Image) -> Pair:
        """Two images of one size, ``h w c``, uint8, with three channels or four.

        Raises:
            AnimateDiffError: OpenCV is missing, or the file of RIFE cannot be used.
        """
        from .in_between import InBetween

        by_flow = InBetween(before, after)
        if self.weights is None:
            return by_flow
        return _RifePair(before, after, by_flow, self.weights, self.everywhere)


@dataclass(frozen=True)
class _RifePair:
    """Two images between which RIFE makes frames. A cut stays a cut, which flow tells and the network cannot."""

    before: Image
    after: Image
    by_flow: InBetween
    weights: Path
    everywhere: bool

    def at(self, share: float) -> Image:
        """See `Pair`."""
        if self.by_flow.is_still or not (self.everywhere or self.by_flow.is_fast):
            return self.by_flow.at(share)
        return _by_rife(self.weights, self.before, self.after, share)


def _by_rife(weights: Path, before: Image, after: Image, share: float) -> Image:
    import numpy as np
    import torch
    import torch.nn.functional as F

    from .rife import SIDE_MULTIPLE

    network = load_rife(weights)
    device = next(network.parameters()).device
    height, width = before.shape[:2]
    padding = (0, -width % SIDE_MULTIPLE, 0, -height % SIDE_MULTIPLE)
    with torch.inference_mode():
        one, other = (
            torch.from_numpy(np.array(image)).to(device).permute(2, 0, 1)[None].float() / 255
            for image in (before, after)
        )
        padded = (F.pad(image, padding, mode="replicate") for image in (one, other))
        made = network(*padded, share)[0, :, :height, :width]
        levels = (made * 255).round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0)
        found: Image = levels.contiguous().cpu().numpy()
    return found
