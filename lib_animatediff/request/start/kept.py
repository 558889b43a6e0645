"""What finished frames keep, put back pixel by pixel: parts of a source video behind a mask, and pinned images."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from lib_animatediff.sampling.hold import feathered, shrunk
from lib_animatediff.video.fitting import Size
from lib_animatediff.video.mask import VideoMask, mask_frames
from lib_animatediff.video.palette import raw_bytes
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.source import examine, over_white, source_frames
from motion_module import ClipError

from .pins import PinnedFrames
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


class Kept(Protocol):
    """Puts what is kept back into finished frames."""

    def put_back(self, image: Image, frame: int) -> Image:
        """A finished frame with what it keeps."""


def kept_pixels(plan: ClipPlan) -> Kept | None:
    """What puts back the parts of a plan's source video that its mask keeps, and pinned images; None: nothing.

    Exactly pinned frames keep nothing of the video.
    """
    pins = None if plan.pins is None else plan.pins.within(len(plan.rendered))
    if pins is not None and pins.keeps_pixels:
        return KeptImages(pins, _kept_by_mask(plan))
    return _kept_by_mask(plan)


def check_kept_size(plan: ClipPlan, size: Size) -> None:
    """Check that finished frames can keep the pixels of pinned images.

    Args:
        size: width and height of the first pass.

    Raises:
        ClipError: the clip has another size than the images.
    """
    if plan.pins is None or not plan.pins.keeps_pixels:
        return
    made = size if plan.second_pass is None else plan.second_pass.size(size)
    source, _ = next(plan.pins.series())
    own = examine(source, frames=1).size
    if own != made:
        raise ClipError(
            f"{source.name} has {own[0]}x{own[1]} pixels, and this clip would have {made[0]}x{made[1]}, so that its "
            "other frames could not stay as they are. Leave width and height out.",
            code="AD-S36",
        )


def _kept_by_mask(plan: ClipPlan) -> KeptPixels | None:
    if plan.video is None or plan.video.mask is None:
        return None
    is_exact = plan.pins is not None and plan.pins.strength == 1
    return KeptPixels(plan.video, len(plan.rendered), plan.pins.frames if plan.pins and is_exact else ())


class KeptImages:
    """Puts the images of pinned frames in the place of what was made of them.

    It reads them along with the frames, which should therefore come in order.

    Args:
        pins: the pinned frames.
        before: what the other frames keep.
    """

    def __init__(self, pins: PinnedFrames, before: Kept | None = None) -> None:
        self._pins = pins
        self._before = before
        self._frames = frozenset(pins.frames)
        self._coming: Iterator[tuple[int, Image]] = iter(())
        self._next = 0
        self._size = (0, 0)

    def put_back(self, image: Image, frame: int) -> Image:
        """The image of a pinned frame, fitted to one of another size; another finished frame as it is.

        Raises:
            ClipError: a file was changed since it was examined.
        """
        if frame not in self._frames:
            return image if self._before is None else self._before.put_back(image, frame)
        if frame < self._next or image.size != self._size:
            images = map(over_white, self._pins.images(image.size))
            self._coming = zip(self._pins.frames, images, strict=True)
            self._size = image.size
        self._next = frame + 1
        return next(own for number, own in self._coming if number == frame).convert("RGB")


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
