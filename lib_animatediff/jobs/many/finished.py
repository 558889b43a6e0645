"""Which clips are finished: those whose files contain the recipe. So a run needs no list of what it has done."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.video import read_recipe
from lib_animatediff.video.formats import FORMATS
from motion_module import AnimateDiffError
from motion_module.limits import exists, is_folder

from .errors import ManifestError

_VERSIONS = "versions"  # of the libraries, which do not make another clip of the same request
_TEXT = "txt"  # the format without a recipe, which another format of the clip has
_WITHOUT_RECIPE = FORMATS[_TEXT].suffix


def job_id(recipe: Mapping[str, Any]) -> str:
    """SHA-256 of what a recipe asks for, in hexadecimal."""
    asked = {name: value for name, value in recipe.items() if name != _VERSIONS}
    text = json.dumps(asked, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def check_formats(keys: Iterable[str]) -> None:
    """Check that a finished clip of these formats is recognised.

    Raises:
        ManifestError: no file would contain the recipe.
    """
    if set(keys) == {_TEXT}:
        raise ManifestError(
            "A TXT file alone does not tell whether its clip is finished. Add a format that contains the clip, such as "
            "gif.",
            code="AD-M38",
        )


def is_finished(places: Sequence[Path], job: str) -> bool:
    """Whether all files of a clip are there, and contain the recipe of this job."""
    return all(exists(place) and _holds(place, job) for place in places)


def _holds(place: Path, job: str) -> bool:
    if place.suffix.lower() == _WITHOUT_RECIPE and not is_folder(place):
        return True
    try:
        data = read_recipe(place).data
    except AnimateDiffError:
        return False
    return data is not None and job_id(data) == job
