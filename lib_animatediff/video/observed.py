"""Follow Pillow while it encodes an animation: it asks each image for its frame just before it encodes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .encoding import EncoderInput

if TYPE_CHECKING:
    from PIL.Image import Image


def observed(clip: EncoderInput, frames: Iterator[Image]) -> Iterator[Any]:
    """Yield the frames as images that report to the clip that the frames before them are encoded."""
    for index, frame in enumerate(frames):
        yield frame if clip.progress is None or not index else _ObservedImage(frame, clip, index)


class _ObservedImage:
    """An image for Pillow's list of further images. Everything but `seek` is the image's own."""

    def __init__(self, image: Image, clip: EncoderInput, before: int) -> None:
        self._image = image
        self._clip = clip
        self._before = before

    def seek(self, frame: int) -> None:
        """Choose a frame of the image, of which there is one. Pillow does so before it encodes it."""
        if frame == 0:
            self._clip.note(self._before)
        self._image.seek(frame)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._image, name)
