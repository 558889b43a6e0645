"""What infotext and recipe of a clip say about the images and the masks of the ControlNet extension's units."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.request.effects import Note
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video.hashing import file_hash

from .sources import UnitFrames

# The extension reads every field whose name begins with "ControlNet" as a unit of its own.
IMAGES_FIELD, HASHES_FIELD = "Control images", "Control images hashes"
MASKS_FIELD, MASK_HASHES_FIELD = "Control masks", "Control masks hashes"
CONTROL_FIELDS = (IMAGES_FIELD, HASHES_FIELD, MASKS_FIELD, MASK_HASHES_FIELD)
_HASH_LENGTH = 10  # as the WebUI shows hashes
_BY_MASK = ("mask", "mask_invert")


def control_source(p: Any, units: Sequence[UnitFrames], source: ClipSource | None) -> ClipSource | None:
    """What the clip's files take over, with names and hashes of the files; also writes them into the infotext of ``p``.

    Args:
        source: from a source video or from images.
    """
    entries = [{"unit": unit.host.number, **unit.named.to_json(_named)} for unit in units if unit.named is not None]
    masks = [{"unit": unit.host.number, **_named(unit.masks.path)} for unit in units if unit.masks is not None]
    if not entries and not masks:
        return source
    recipe: dict[str, Any] = {}
    if entries:
        recipe["control_images"] = entries
        shown = [f"{unit.host.number}: {unit.named.images}" for unit in units if unit.named is not None]
        p.extra_generation_params[IMAGES_FIELD] = ", ".join(shown)
        p.extra_generation_params[HASHES_FIELD] = _hashes(file for entry in entries for file in _files_of(entry))
    if masks:
        recipe["control_masks"] = masks
        p.extra_generation_params[MASKS_FIELD] = ", ".join(f"{mask['unit']}: {mask['name']}" for mask in masks)
        p.extra_generation_params[MASK_HASHES_FIELD] = _hashes(masks)
    return ClipSource(None, recipe) if source is None else ClipSource(source.sound, {**source.recipe, **recipe})


def _files_of(entry: dict[str, Any]) -> list[dict[str, Any]]:
    return [entry["source"]] if "source" in entry else list(entry["keys"])


def _hashes(files: Iterable[dict[str, Any]]) -> str:
    found = {file["name"]: file["sha256"][:_HASH_LENGTH] for file in files}
    return ", ".join(f"{name}: {digest}" for name, digest in found.items())


def _named(path: Path) -> dict[str, Any]:
    # The model is in a field of the extension, and is no file that can be found from here.
    return {"name": path.name, "sha256": file_hash(path)} if path.is_absolute() else {"name": path.name}


def without_served(notes: Iterable[Note], units: Sequence[UnitFrames]) -> Iterator[Note]:
    """Notes, but none about the video mask having no effect without a source video if a unit inpaints by it."""
    served = _BY_MASK if any(unit.inpainted is not None for unit in units) else ()
    return (note for note in notes if note.setting not in served)
