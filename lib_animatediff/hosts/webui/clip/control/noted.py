"""What infotext and recipe of a clip say about the images of the ControlNet extension's units."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video.hashing import file_hash

from .sources import UnitFrames

# The extension reads every field whose name begins with "ControlNet" as a unit of its own.
IMAGES_FIELD, HASHES_FIELD = "Control images", "Control images hashes"
CONTROL_FIELDS = (IMAGES_FIELD, HASHES_FIELD)
_HASH_LENGTH = 10  # as the WebUI shows hashes


def control_source(p: Any, units: Sequence[UnitFrames], source: ClipSource | None) -> ClipSource | None:
    """What the clip's files take over, with the images' names and hashes; also writes them into the infotext of ``p``.

    Args:
        source: from a source video or from images.
    """
    entries = [{"unit": unit.host.number, **unit.named.to_json(_named)} for unit in units if unit.named is not None]
    if not entries:
        return source
    shown = [f"{unit.host.number}: {unit.named.images}" for unit in units if unit.named is not None]
    hashes = {file["name"]: file["sha256"][:_HASH_LENGTH] for entry in entries for file in _files_of(entry)}
    p.extra_generation_params[IMAGES_FIELD] = ", ".join(shown)
    p.extra_generation_params[HASHES_FIELD] = ", ".join(f"{name}: {digest}" for name, digest in hashes.items())
    recipe = {"control_images": entries}
    return ClipSource(None, recipe) if source is None else ClipSource(source.sound, {**source.recipe, **recipe})


def _files_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["source"]] if "source" in entry else list(entry["keys"])


def _named(path: Path) -> dict[str, Any]:
    # The model is in a field of the extension, and is no file that can be found from here.
    return {"name": path.name, "sha256": file_hash(path)} if path.is_absolute() else {"name": path.name}
