"""What infotext and recipe of a clip say about its SparseCtrl encoders, its PIA model and their images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.control.unit import ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.pins import PinnedFrames, in_words
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video.hashing import file_hash
from motion_module.files.weights import MOTION_FILE_SUFFIXES

GUIDES_FIELD, HASHES_FIELD = "Guided frames", "Guided frames hashes"
GUIDE_FIELDS = (GUIDES_FIELD, HASHES_FIELD)
_HASH_LENGTH = 10  # as the WebUI shows hashes


def guides_source(p: Any, plan: ClipPlan, source: ClipSource | None) -> ClipSource | None:
    """What the clip's files take over, with names and hashes; also writes them into the infotext of ``p``.

    Args:
        source: from a source video or from images.
    """
    units = [unit for unit in plan.controls if isinstance(unit, ControlUnit)]
    if not units:
        return source
    entries = [unit.to_json(_named) for unit in units]
    files = [file for entry in entries for file in (entry["model"], *entry["keys"])]
    hashes = {file["name"]: file["sha256"][:_HASH_LENGTH] for file in files if "sha256" in file}
    p.extra_generation_params[GUIDES_FIELD] = "; ".join(map(_shown, units))
    p.extra_generation_params[HASHES_FIELD] = ", ".join(f"{name}: {digest}" for name, digest in hashes.items())
    recipe = {"controls": entries}
    return ClipSource(None, recipe) if source is None else ClipSource(source.sound, {**source.recipe, **recipe})


def _shown(unit: ControlUnit) -> str:
    return f"{unit.model.name} with {in_words(PinnedFrames(unit.keys))}"


def _named(path: Path) -> dict[str, Any]:
    """Name and hash of a file. The WebUI keeps the hashes of models, and has none if hashing is off."""
    if path.suffix.lower() not in MOTION_FILE_SUFFIXES:
        return {"name": path.name, "sha256": file_hash(path)}
    digest = a1111.file_sha256(path, f"AnimateDiff/{path.name}")
    return {"name": path.name} if digest is None else {"name": path.name, "sha256": digest}
