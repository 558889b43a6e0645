"""Masks of a video: which parts of its frames may change. One image, a video of masks, or the video's own transparency.

White may change, and black stays. Grey is a part of the strength.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from motion_module import ClipError
from motion_module.limits import exists

from .fitting import Size, fitted
from .series import is_pattern
from .source import Source, SourceFacts, chosen_images, examine, source_frames

if TYPE_CHECKING:
    from PIL.Image import Image

FEATHER, MOST_FEATHER = 4, 64  # pixels
_BLACK, _WHITE = 8, 247  # codecs do not keep 0 and 255
_OTHER_SHAPE = 0.01  # of the ratio of width to height; sides in whole pixels differ by less
_CLEAR, _OPAQUE = 0, 255


@dataclass(frozen=True)
class VideoMask:
    """Which parts of a video's frames may change.

    Attributes:
        path: an image for all frames, or a video, an animation or a series with a mask for each frame of the video;
            None: where the video is transparent.
        invert: black may change instead of white, or opaque parts instead of transparent ones.
        feather: width in pixels over which a changed part fades in from its edge; 0: a hard edge.

    Raises:
        ClipError: the feather is out of range, or the path is an address.
    """

    path: Path | None = None
    invert: bool = False
    feather: int = FEATHER

    def __post_init__(self) -> None:
        if not 0 <= self.feather <= MOST_FEATHER:
            raise ClipError(
                f"The feather of a mask must be 0 to {MOST_FEATHER} pixels, not {self.feather}.", code="AD-V70"
            )
        if self.path is not None:
            Source(self.path)  # refuses addresses

    @property
    def name(self) -> str:
        """Name of the file, the folder or the pattern, without the path."""
        return "alpha" if self.path is None else self.path.name


def examine_mask(mask: VideoMask, source: Source, facts: SourceFacts) -> bool:
    """Read the masks of a clip once, and refuse what would fail later.

    Args:
        source, facts: the video of the clip.

    Returns:
        Whether the masks go on after the clip's last frame.

    Raises:
        AnimateDiffError: the file is missing or damaged, has another shape than the video or too few masks, or the
            video is nowhere transparent.
    """
    if mask.path is None:
        if all(image.mode != "RGBA" for image in islice(chosen_images(source), facts.frames)):
            raise ClipError(
                f"{source.name} has no transparent pixels in these frames, so alpha masks nothing. Give the file of a "
                "mask.",
                code="AD-V71",
            )
        return False
    if not exists(mask.path) and not is_pattern(mask.path):
        raise ClipError(f"There is no mask {mask.path}. Check the path.", code="AD-V72")
    is_one = _is_one_image(mask.path)
    own = Source(mask.path) if is_one else _beside(mask.path, source)
    count = 1 if is_one else sum(1 for _ in islice(chosen_images(own), facts.frames + 1))
    if not is_one and count < facts.frames:
        raise ClipError(
            f"{mask.name} has {count} masks for a clip of {facts.frames} frames. Give one image, or a mask for each "
            "frame of the video.",
            code="AD-V73",
        )
    size = examine(own, frames=min(count, facts.frames)).size
    ratio, wanted = (width / height for width, height in (size, facts.size))
    if abs(ratio - wanted) > _OTHER_SHAPE * wanted:
        raise ClipError(
            f"{mask.name} has {size[0]}x{size[1]} pixels, another shape than {source.name} with "
            f"{facts.size[0]}x{facts.size[1]}. Cut the mask to the shape of the video.",
            code="AD-V74",
        )
    return count > facts.frames


def mask_frames(mask: VideoMask, source: Source, size: Size, frames: int) -> Iterator[Image]:
    """The mask of each frame in the size of the clip, grey, white where it may change; read one by one.

    A mask for all frames is the same object each time. Edges that a fit adds stay, unless the video's own transparency
    is the mask: they are transparent.

    Raises:
        ClipError: while masks are read: a file was changed since it was examined.
    """
    if mask.path is None:
        opaque = (fitted(_opacity(image), size, source.fit, smooth=True) for image in chosen_images(source))
        yield from (_levels(image, invert=not mask.invert) for image in islice(opaque, frames))
        return
    shape = next(iter(chosen_images(source))).size
    if _is_one_image(mask.path):
        only = _fitted(next(iter(chosen_images(Source(mask.path)))), mask, shape, size, source.fit)
        yield from (only for _ in range(frames))
        return
    own = _beside(mask.path, source)
    number = 0
    for image in islice(chosen_images(own), frames):
        yield _fitted(image, mask, shape, size, source.fit)
        number += 1
    if number < frames:
        deque(source_frames(own, size, frames), maxlen=0)  # raises the error about a changed file


def _beside(path: Path, source: Source) -> Source:
    """The masks of the chosen frames: chosen as these are."""
    return Source(path, source.start, None, source.every, source.fps, source.fit)


def _is_one_image(path: Path) -> bool:
    return len(list(islice(chosen_images(Source(path)), 2))) == 1


def _fitted(image: Image, mask: VideoMask, shape: Size, size: Size, fit: str) -> Image:
    """A mask in the clip's size, by way of the video's, so that both are cut alike."""
    from PIL import Image as PillowImage

    grey = _levels(_grey(image), invert=mask.invert)
    if grey.size != shape:
        grey = grey.resize(shape, PillowImage.Resampling.BILINEAR)
    return fitted(grey, size, fit, smooth=True)


def _grey(image: Image) -> Image:
    """A grey image; transparent parts are black, as in a motion mask."""
    from PIL import Image as PillowImage

    if image.mode == "RGBA":
        image = PillowImage.alpha_composite(PillowImage.new("RGBA", image.size, (0, 0, 0, _OPAQUE)), image)
    return image.convert("L")


def _opacity(image: Image) -> Image:
    from PIL import Image as PillowImage

    return image.getchannel("A") if image.mode == "RGBA" else PillowImage.new("L", image.size, _OPAQUE)


def _levels(image: Image, *, invert: bool) -> Image:
    """Grey levels from nearly black to nearly white over the whole range."""
    stretched = ((level - _BLACK) * _OPAQUE / (_WHITE - _BLACK) for level in range(_OPAQUE + 1))
    levels = [min(max(round(level), _CLEAR), _OPAQUE) for level in stretched]
    return image.point([_OPAQUE - level for level in levels] if invert else levels)
