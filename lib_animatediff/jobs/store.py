"""Rendered clips on disk, which any run that needs the same frames reuses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lib_animatediff.video import Recipe, read_clip, read_recipe, write_clip
from lib_animatediff.video.formats import path_for
from motion_module import AnimateDiffError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_FORMAT = "apng"  # lossless, keeps repeated frames, and plays in every browser
_KEY, _SECONDS = "evaluation", "seconds"  # of the embedded recipe


@dataclass(frozen=True)
class CachedClip:
    """A rendered clip.

    Attributes:
        frames: ``f h w 3``, RGB uint8.
        seconds: time that rendering took.
    """

    frames: NDArray[np.uint8]
    seconds: float


def save(path: Path, clip: CachedClip, made_of: Mapping[str, Any], fps: float) -> None:
    """Write a clip atomically.

    Args:
        path: target without a suffix.
        clip: the clip.
        made_of: everything that determines the frames, as JSON.
        fps: frames per second of the file.

    Raises:
        ClipNotWrittenError: the folder is not writable.
    """
    from PIL import Image

    images = [Image.fromarray(frame) for frame in clip.frames]
    recipe = Recipe(data={_KEY: dict(made_of), _SECONDS: clip.seconds})
    write_clip(file_of(path), images, formats=[_FORMAT], fps=fps, recipe=recipe)


def load(path: Path, made_of: Mapping[str, Any]) -> CachedClip | None:
    """Read a clip; None if it does not exist, is damaged, or was rendered from another request."""
    file = file_of(path)
    if not file.is_file():
        return None
    try:
        data = read_recipe(file).data or {}
        if data.get(_KEY) != made_of:
            return None
        frames = np.stack([frame.array()[..., :3] for frame in read_clip(file)])
        return CachedClip(frames, float(data[_SECONDS]))
    except (AnimateDiffError, KeyError, TypeError, ValueError):
        return None


def file_of(path: Path) -> Path:
    """The file of a clip that was saved as ``path``."""
    return path_for(path, _FORMAT)
