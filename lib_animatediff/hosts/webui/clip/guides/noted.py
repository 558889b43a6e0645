"""What infotext and recipe of a clip say about the models that images and a camera steer, and about these."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.request.camera.unit import CAMERA, CameraUnit
from lib_animatediff.request.control.unit import AnyUnit, ControlUnit
from lib_animatediff.request.plan import ClipPlan
from lib_animatediff.request.start.pins import keys_in_words
from lib_animatediff.request.start.taken_over import ClipSource
from lib_animatediff.video.hashing import file_hash
from motion_module.files.weights import MOTION_FILE_SUFFIXES

_GUIDES, _CAMERA = "Guided frames", "Camera"
GUIDE_FIELDS = tuple(f"{name}{hashes}" for name in (_GUIDES, _CAMERA) for hashes in ("", " hashes"))
_HASH_LENGTH = 10  # as the WebUI shows hashes


def guides_source(p: Any, plan: ClipPlan, source: ClipSource | None) -> ClipSource | None:
    """What the clip's files take over, with names and hashes; also writes them into the infotext of ``p``.

    Args:
        source: from a source video or from images.
    """
    if not plan.controls:
        return source
    entries = [unit.to_json(_named) for unit in plan.controls]
    for name, kind in ((_GUIDES, ControlUnit), (_CAMERA, CameraUnit)):
        own = [(unit, entry) for unit, entry in zip(plan.controls, entries, strict=True) if isinstance(unit, kind)]
        files = [file for _, entry in own for file in _files(entry)]
        hashes = {file["name"]: file["sha256"][:_HASH_LENGTH] for file in files if "sha256" in file}
        if own:
            p.extra_generation_params[name] = "; ".join(_shown(unit) for unit, _ in own)
            p.extra_generation_params[f"{name} hashes"] = ", ".join(f"{file}: {hash}" for file, hash in hashes.items())
    recipe = {"controls": entries}
    return ClipSource(None, recipe) if source is None else ClipSource(source.sound, {**source.recipe, **recipe})


def _files(entry: dict[str, Any]) -> list[dict[str, Any]]:
    """The files of a unit's JSON."""
    return [entry["model"], *entry.get("keys", ()), *([entry[CAMERA]] if "name" in entry.get(CAMERA, ()) else [])]


def _shown(unit: AnyUnit) -> str:
    return str(unit) if isinstance(unit, CameraUnit) else f"{unit.model.name} with {keys_in_words(unit.keys)}"


def _named(path: Path) -> dict[str, Any]:
    """Name and hash of a file. The WebUI keeps the hashes of models, and has none if hashing is off."""
    if path.suffix.lower() not in MOTION_FILE_SUFFIXES:
        return {"name": path.name, "sha256": file_hash(path)}
    digest = a1111.file_sha256(path, f"AnimateDiff/{path.name}")
    return {"name": path.name} if digest is None else {"name": path.name, "sha256": digest}
