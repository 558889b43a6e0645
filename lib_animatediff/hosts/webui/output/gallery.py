"""Makes the gallery's Save and Zip save whole clips, if the format of the user's images supports animation."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.video import Recipe, read_clip, read_recipe, write_clip
from motion_module import AnimateDiffError

from .deliver import CLIPS_KEY, shown_file

_USUAL_FPS = 8
_FORMATS = {".png": "apng", ".webp": "webp"}  # animated formats with these suffixes; others save the first frame


def convert_palette_to_rgb(saving: Any) -> None:
    """Called before the WebUI saves: convert the first frame of a clip from a palette, which JPEG does not support."""
    if _clip_of(saving) is not None and saving.image.mode == "P":
        saving.image = saving.image.convert("RGB")


def save_full_animation(saving: Any) -> None:
    """Called after the WebUI has saved a clip's first frame: replace it by the clip, unless the clip was deleted."""
    clip = _clip_of(saving)
    saved = Path(saving.filename)
    form = _FORMATS.get(saved.suffix.lower())
    file = _shown_file(clip) if clip else None
    if clip is None or form is None or file is None:
        return
    try:
        recipe = read_recipe(file)
        frames = [frame.image for frame in read_clip(file)]
        fps = clip.get("fps", _USUAL_FPS)
        write_clip(saved, frames, formats=[form], fps=fps, recipe=Recipe(recipe.infotext, recipe.data))
    except AnimateDiffError as error:
        logging.getLogger(__name__).warning("AnimateDiff: only the clip's first frame was saved. %s", error)


def _clip_of(saving: Any) -> dict[str, Any] | None:
    """The clip of the image that the gallery saves, by its position; None for other images.

    The page sends it back as JSON, which anyone can write.
    """
    held = saving.p
    if hasattr(held, "sd_model"):  # saved during rendering, not from the gallery
        return None
    clips = (getattr(held, "extra_generation_params", None) or {}).get(CLIPS_KEY) or []
    place = getattr(held, "batch_index", -1) + 1  # Save counts from -1
    clip = clips[place] if isinstance(clips, list) and 0 <= place < len(clips) else None
    return clip if isinstance(clip, dict) else None


def _shown_file(clip: dict[str, Any]) -> Path | None:
    """The clip's file that the gallery shows, if the WebUI has shown it."""
    named = clip.get("files")
    paths = [Path(path) for path in named if isinstance(path, str)] if isinstance(named, list) else []
    file = shown_file(paths)
    return file if file is not None and a1111.page_may_read(file) else None
