"""The parts of a source video that a mask keeps: put back into the finished frames, pixel by pixel."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lib_animatediff.sampling.hold import feathered, shrunk
from lib_animatediff.video.mask import VideoMask, mask_frames
from lib_animatediff.video.palette import raw_bytes
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.source import over_white, source_frames

from .video import VideoStart

if TYPE_CHECKING:
    from PIL.Image import Image

    from lib_animatediff.request.plan import ClipPlan

_LEVELS = 255


def latent_masks(video: VideoStart, size: tuple[int, int], frames: int) -> Tensor | None:
    """The masks of the frames for latents, ``f 1 h w`` from 0 to 1; None: there is no mask.

    Args:
        size: width and height of the clip in pixels.

    Raises:
        ClipError: a mask cannot be read.
    """
    if video.mask is None:
        return None
    kept: tuple[Image, Tensor] | None = None
    masks = []
    for image in mask_frames(video.mask, video.source, size, frames):
        if kept is None or kept[0] is not image:
            kept = image, shrunk(shares_of(image)[None])
        masks.append(kept[1])
    return torch.stack(masks)


def shares_of(mask: Image) -> Tensor:
    """A grey image as a tensor, ``h w`` from 0 (black) to 1 (white)."""
    return levels_of(mask)[..., 0] / _LEVELS


def kept_pixels(plan: ClipPlan) -> KeptPixels | None:
    """What puts a plan's source video back where its mask keeps it, but for exactly pinned frames; None: nothing."""
    if plan.video is None or plan.video.mask is None:
        return None
    is_exact = plan.pins is not None and plan.pins.strength == 1
    return KeptPixels(plan.video, len(plan.rendered), plan.pins.frames if plan.pins and is_exact else ())


class KeptPixels:
    """Puts the frames of a video back where its mask is black, bit for bit.

    It reads the video along with the frames, which should therefore come in order.

    Args:
        video: its mask is used.
        frames: of the clip.
        left_out: frames that stay as they are.
    """

    def __init__(self, video: VideoStart, frames: int, left_out: Collection[int] = ()) -> None:
        self._video = video
        self._frames = frames
        self._left_out = left_out
        self._coming: Iterator[tuple[Image, Image]] = iter(())
        self._next = 0
        self._size = (0, 0)
        self._weights: tuple[Image, Image] | None = None  # the last mask, and what came of it

    def put_back(self, image: Image, frame: int) -> Image:
        """A finished frame, of any size, with the parts that the mask keeps.

        Raises:
            ClipError: a file was changed since it was examined.
        """
        from PIL import Image as PillowImage

        mask = self._video.mask
        if mask is None or frame in self._left_out:
            return image
        kept, grey = self._read(image.size, frame, mask)
        if self._weights is None or self._weights[0] is not grey:
            shares = feathered(shares_of(grey), mask.feather)
            values = (shares * _LEVELS).round().to(torch.uint8)
            self._weights = grey, PillowImage.frombytes("L", grey.size, raw_bytes(values))
        return PillowImage.composite(image.convert("RGB"), kept, self._weights[1])

    def _read(self, size: tuple[int, int], frame: int, mask: VideoMask) -> tuple[Image, Image]:
        if frame < self._next or size != self._size:
            source = self._video.source
            images = map(over_white, source_frames(source, size, self._frames))
            self._coming = zip(images, mask_frames(mask, source, size, self._frames), strict=True)
            self._next, self._size = 0, size
        for pair in self._coming:
            self._next += 1
            if self._next > frame:
                return pair
        raise IndexError(frame)
