"""Clips of an evaluation on disk: written as they come, and taken again by whoever runs the same evaluation."""

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
    from .flow import Frames

_FORMAT = "apng"  # loses nothing, keeps frames that are like the one before, and every browser plays it


@dataclass(frozen=True)
class CachedClip:
    """Frames, ``f h w 3``, and how long they took to be made, in seconds."""

    frames: Frames
    seconds: float


def keep(path: Path, kept: CachedClip, made_of: Mapping[str, Any], fps: float) -> None:
    """Write frames; the file appears whole or not at all.

    Args:
        path: without suffix.
        made_of: all that decides the frames.

    Raises:
        ClipNotWrittenError: the folder cannot be written; the message says where the frames are instead.
    """
    from PIL import Image

    images = [Image.fromarray(frame) for frame in kept.frames]
    recipe = Recipe(data={"evaluation": dict(made_of), "seconds": kept.seconds})
    write_clip(file_of(path), images, formats=[_FORMAT], fps=fps, recipe=recipe)


def take(path: Path, made_of: Mapping[str, Any]) -> CachedClip | None:
    """Frames that were kept; None where there are none, where they are damaged, or were made of something else."""
    file = file_of(path)
    if not file.is_file():
        return None
    try:
        data = read_recipe(file).data or {}
        if data.get("evaluation") != made_of:
            return None
        frames = np.stack([frame.array()[..., :3] for frame in read_clip(file)])
        return CachedClip(frames, float(data["seconds"]))
    except (AnimateDiffError, KeyError, TypeError, ValueError):
        return None


def file_of(path: Path) -> Path:
    """The file in which frames are kept."""
    return path_for(path, _FORMAT)
