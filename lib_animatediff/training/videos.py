"""Frames of video files at the training resolution."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from lib_animatediff.request.camera.unit import read_poses
from lib_animatediff.video.decode_video import decode_frames
from lib_animatediff.video.pixels import levels_of
from lib_animatediff.video.pyav import open_media
from motion_module import AnimateDiffError, ClipError
from motion_module.limits import IMAGE_PIXELS

from .clips import BrokenClipError, Clip, Cut, Poses
from .settings import CAMERA, PIXELS_PER_STEP, TrainingSettings

if TYPE_CHECKING:
    from PIL.Image import Image

WIDEST = 2.0  # maximum aspect ratio of a bucket
REASON_LENGTH = 120
POSES = ".camera.txt"  # in the place of a video's suffix: its file of poses
Size = tuple[int, int]


def bucket_sizes(side: int) -> list[Size]:
    """Widths and heights with about the area of a square, in steps of 64 pixels, up to an aspect ratio of 2:1."""
    sizes = []
    for width in range(PIXELS_PER_STEP, 2 * side + 1, PIXELS_PER_STEP):
        height = max(round(side * side / width / PIXELS_PER_STEP), 1) * PIXELS_PER_STEP
        if max(width, height) <= WIDEST * min(width, height):
            sizes.append((width, height))
    return sizes


def size_of(video: Size, settings: TrainingSettings) -> Size:
    """Width and height at which a video of the given width and height is trained."""
    if not settings.buckets:
        return settings.size, settings.size
    shape = video[0] / video[1]
    return min(
        bucket_sizes(settings.size), key=lambda size: max(size[0] / size[1] / shape, shape / (size[0] / size[1]))
    )


def fit(image: Tensor, size: Size) -> Tensor:
    """Resize an image, ``3 h w`` floats, to cover ``size`` (width, height), and crop the centre."""
    width, height = size
    scale = max(width / image.shape[2], height / image.shape[1])
    covering = (max(round(image.shape[1] * scale), height), max(round(image.shape[2] * scale), width))
    if covering[0] * covering[1] > IMAGE_PIXELS:
        raise ValueError(f"{image.shape[2]}x{image.shape[1]} pixels are too long and narrow for {width}x{height}")
    image = F.interpolate(image[None], covering, mode="bilinear", antialias=True, align_corners=False)[0]
    top, left = (covering[0] - height) // 2, (covering[1] - width) // 2
    return image[:, top : top + height, left : left + width]


class VideoSource:
    """Clips cut from video files.

    Args:
        items: files and their captions.
        settings: size and shape of the frames.
    """

    def __init__(self, items: Sequence[tuple[Path, str]], settings: TrainingSettings) -> None:
        self._items = items
        self._settings = settings

    def __len__(self) -> int:
        return len(self._items)

    def name(self, index: int) -> str:
        """Name of the file."""
        return self._items[index][0].name

    def path(self, index: int) -> Path:
        """The file."""
        return self._items[index][0]

    def caption(self, index: int) -> str:
        """Caption of the video."""
        return self._items[index][1]

    def read(self, index: int, cut: Cut) -> Clip:
        """See `Source.read`."""
        path, caption = self._items[index]
        with _named_errors(path):
            length = _declared_length(path)
            images = self._images(path, cut.indices(length), cut.mirror)
            if isinstance(images, int):  # it ends before its header says
                length = images
                images = self._images(path, cut.indices(length), cut.mirror)
            assert isinstance(images, Tensor)
        return Clip(caption, frames=images, poses=self.poses(index, cut, length))

    def poses(self, index: int, cut: Cut, length: int) -> Poses | None:
        """The cameras of a clip, from the file beside the video; None where no camera is trained.

        Args:
            length: number of frames of the video.

        Raises:
            BrokenClipError: there is no such file, or it has no poses.
        """
        if self._settings.target != CAMERA:
            return None
        try:
            return cut.poses(read_poses(self.path(index).with_suffix(POSES)), length)
        except ClipError as error:
            raise BrokenClipError(f"{self.name(index)} has no camera: {error.message}", code="AD-T48") from error

    def whole(self, index: int, *, mirror: bool = False) -> Iterator[Tensor]:
        """Yield all frames of a video, ``3 h w`` in -1..1.

        Raises:
            BrokenClipError: it cannot be read.
        """
        with _named_errors(self.path(index)):
            for frame in decode_frames(self.path(index)):
                yield self._image(frame.image(), mirror)

    def _images(self, path: Path, indices: list[int], mirror: bool) -> Tensor | int:
        """The requested frames, ``f 3 h w``; or the actual length of a video that is too short."""
        selected: dict[int, Tensor] = dict.fromkeys(indices, torch.empty(0))
        seen = 0
        for number, frame in enumerate(decode_frames(path)):
            seen = number + 1
            if number in selected:
                selected[number] = self._image(frame.image(), mirror)
            if number == indices[-1]:
                return torch.stack([selected[index] for index in indices])
        if not seen:
            raise ValueError("it contains no frames")
        return seen

    def _image(self, image: Image, mirror: bool) -> Tensor:
        pixels = rearrange(levels_of(image.convert("RGB")), "h w c -> c h w")
        size = size_of((pixels.shape[2], pixels.shape[1]), self._settings)
        pixels = fit(pixels.float(), size).clamp(0, 255) / 127.5 - 1
        return pixels.flip(-1) if mirror else pixels


@contextmanager
def _named_errors(path: Path) -> Iterator[None]:
    """Re-raise any decoder error as a `BrokenClipError` that names the file."""
    try:
        yield
    except AnimateDiffError:  # a missing library
        raise
    except Exception as error:  # decoders raise all kinds of exceptions
        reason = "the file does not exist" if isinstance(error, FileNotFoundError) else str(error)
        text = " ".join(reason.split())[:REASON_LENGTH].rstrip(".")
        raise BrokenClipError(f"{path.name} cannot be read: {text}.", code="AD-T35") from error


def _declared_length(path: Path) -> int:
    """Number of frames according to the header, or else the number of packets."""
    with open_media(path) as container:
        stream = container.streams.video[0]
        length = stream.frames or sum(1 for packet in container.demux(stream) if packet.size)
    if not length:
        raise ValueError("it contains no frames")
    return int(length)
