"""What the gallery's Save and Zip keep of a clip: all of it, where the format of the user's pictures can hold it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from lib_animatediff.video import Recipe, read_clip, read_recipe, write_clip
from motion_module import AnimateDiffError

from .deliver import CLIPS_KEY, shown_file

_FORMATS = {".png": "apng", ".webp": "webp"}  # animated files of the same names; others keep the first frame


def convert_palette_to_rgb(saving: Any) -> None:
    """Before the WebUI saves: a clip is opened as its first frame with a palette, which JPEG cannot hold."""
    if _clip_of(saving) is not None and saving.image.mode == "P":
        saving.image = saving.image.convert("RGB")


def save_full_animation(saving: Any) -> None:
    """After the WebUI has saved a clip's first frame: the clip in its place. It stays if the clip has gone."""
    clip = _clip_of(saving)
    saved = Path(saving.filename)
    form = _FORMATS.get(saved.suffix.lower())
    file = shown_file([Path(path) for path in clip["files"]]) if clip else None
    if clip is None or form is None or file is None:
        return
    try:
        recipe = read_recipe(file)
        frames = [frame.image for frame in read_clip(file)]
        write_clip(saved, frames, formats=[form], fps=clip["fps"], recipe=Recipe(recipe.infotext, recipe.data))
    except AnimateDiffError as error:
        logging.getLogger(__name__).warning("AnimateDiff: only the clip's first frame was saved. %s", error)


def _clip_of(saving: Any) -> dict[str, Any] | None:
    """The clip whose picture is being saved from the gallery, by its place there; None of any other picture."""
    held = saving.p
    if hasattr(held, "sd_model"):  # while pictures are made, not from the gallery
        return None
    clips = (getattr(held, "extra_generation_params", None) or {}).get(CLIPS_KEY) or []
    place = getattr(held, "batch_index", -1) + 1  # as the WebUI's Save counts
    return clips[place] if 0 <= place < len(clips) else None
