"""Path, encoding and recipe of a clip's files."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from lib_animatediff import __version__
from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.base import Processing
from lib_animatediff.hosts.webui.compat.options import NAME_OPTION, option
from lib_animatediff.request.settings import FORMATS, ClipSettings
from lib_animatediff.video import Encoding, Recipe, place_within, safe_name

FOLDER = "AnimateDiff"


def free_place(p: Processing, seed: int, prompt: str, first_frame: Any, request_id: str) -> Path:
    """A path without suffix in the tab's output folder, at which no file of any format exists.

    It follows the user's pattern with the WebUI's placeholders, or ``<date>/<sequence>-<seed>``.

    Raises:
        ClipError: a link leads out of the folder.
    """
    folder = Path(p.outpath_samples) / FOLDER
    pattern = str(option(NAME_OPTION) or "").strip()
    end = f"-{safe_name(request_id)}" if request_id else ""
    if not pattern:
        day = folder / datetime.now().strftime("%Y-%m-%d")
        number = a1111.next_sequence_number(day) if day.is_dir() else 0
        return place_within(day, f"{number:05}-{seed}{end}")
    name = a1111.file_name(p, seed, prompt, first_frame, pattern) + end
    place, number = place_within(folder, name), 1
    while any(place.parent.glob(f"{glob.escape(place.name)}.*")) or place.exists():
        number += 1
        place = place_within(folder, f"{name}-{number}")
    return place


def encoding() -> Encoding:
    """The user's settings of the formats, with the names and ranges of the existing extension."""
    return Encoding(
        palette="frame" if option("animatediff_gif_palette_per_frame") else "clip",
        dither=bool(option("animatediff_gif_dither")),
        quality=int(option("animatediff_webp_quality")),
        lossless=bool(option("animatediff_webp_lossless")),
        mp4_crf=int(option("animatediff_mp4_crf")),
        webm_crf=int(option("animatediff_webm_crf")),
        preset=str(option("animatediff_mp4_preset") or "medium"),
        odd_sizes=str(option("animatediff_odd_sizes")),
    )


def recipe(
    p: Processing, infotext: str, seed: int, settings: ClipSettings, sources: Mapping[str, Any] | None = None
) -> Recipe:
    """The recipe for the files: the infotext, and the request as JSON. Empty if the user disabled metadata.

    Args:
        sources: about the source video and images; None if there are none.
    """
    if not a1111.opts().enable_pnginfo:
        return Recipe()
    info = a1111.checkpoint_info()
    data = {
        "program": "webui",
        "version": __version__,
        "infotext": infotext,
        "seed": int(seed),
        "size": [int(p.width), int(p.height)],
        "steps": int(p.steps),
        "cfg_scale": float(p.cfg_scale),
        "sampler": str(p.sampler_name),
        "checkpoint": {"name": getattr(info, "name_for_extra", None), "hash": getattr(info, "shorthash", None)},
        "settings": {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(settings).items()},
        **(sources or {}),
    }
    return Recipe(infotext, data)


def default_formats() -> list[str]:
    """The formats that the panel selects by default: a user setting with the existing extension's key."""
    chosen = [name for name in option("animatediff_default_save_formats") if name in FORMATS]
    return chosen or ["GIF"]
