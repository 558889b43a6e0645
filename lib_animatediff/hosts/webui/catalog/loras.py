"""Finds the user's motion LoRAs and domain adapters, parses their prompt tags, and loads them for a clip.

The files are in the WebUI's folders of LoRAs or of motion modules. The WebUI's loader does not support their weights,
so their tags are removed from the prompt before it reads them. Other tags are not changed.
"""

from __future__ import annotations

import difflib
import logging
import re
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.prompts.tags import LORA_TAG, find_tag, replace_tags
from lib_animatediff.request.loras import LoraFile, NamedLora, lora_of
from motion_module import (
    DomainAdapter,
    MotionFileError,
    MotionLora,
    MotionModule,
    apply_motion_loras,
    load_domain_adapter,
    load_motion_lora,
    match_report,
)
from motion_module.files.weights import MOTION_FILE_SUFFIXES

from .lora_files import ADAPTER, lora_file
from .models import folders, models_folder

_log = logging.getLogger(__name__)

_WEBUI_SUFFIXES = (".pt", ".ckpt", ".safetensors")  # of LoRAs in the WebUI


def lora_folders() -> list[Path]:
    """The WebUI's folders of LoRAs."""
    return a1111.lora_folders()


def available_loras() -> dict[str, Path]:
    """All motion LoRAs and domain adapters by name: that of the file without its suffix, as in the WebUI."""
    return {name: path for name, path in _all_files().items() if lora_file(path).kind}


def find_lora(name: str) -> Path:
    """The file with a name: from the list, a file name with its suffix, or the alias from a trainer.

    Raises:
        MotionFileError: there is no such file, or it is an image LoRA.
    """
    files = _all_files()
    by_file = {path.name: known for known, path in files.items()}
    called = name if name in files else by_file.get(name, name)
    found = _ours(called, files)
    if found is not None:
        return found
    if other := files.get(called):
        raise MotionFileError(
            f"{other.name} is neither a motion LoRA nor a domain adapter. If it is an image LoRA, use it in the "
            f"prompt: <lora:{other.stem}:1>.",
            code="AD-W01",
        )
    ours = [known for known, path in files.items() if lora_file(path).kind]
    where = f"{lora_folders()[0]} or {models_folder()}"
    if not ours:
        raise MotionFileError(
            f"There is no motion LoRA {name!r}, nor any other, in {where}. Put the file (such as "
            "v2_lora_PanLeft.ckpt) into one of them.",
            code="AD-W02",
        )
    nearest = difflib.get_close_matches(name, ours, n=1) or ours
    raise MotionFileError(
        f"There is no motion LoRA {name!r} in {where}. Choose one from the list, such as {nearest[0]}.", code="AD-W03"
    )


def take_tags(prompt: str) -> tuple[str, list[NamedLora]]:
    """A prompt without the tags of motion LoRAs and domain adapters, and the parsed tags.

    The rest of the prompt does not change: like the WebUI, this removes a tag but not the commas around it.

    Raises:
        ClipError: the strength in such a tag is not a number.
    """
    files = _all_files() if find_tag(prompt, LORA_TAG) else {}
    taken: list[NamedLora] = []

    def kept(tag: re.Match[str]) -> str:
        items = tag[1].split(":")
        name = next((item for item in items if "=" not in item), "")
        if _ours(name, files) is None:
            return tag[0]
        taken.append(lora_of(items, tag[0]))
        return ""

    return replace_tags(prompt, kept, LORA_TAG), taken


def _all_files() -> dict[str, Path]:
    """All candidate files by their name in a tag. The WebUI's own folders take precedence, and in them the last file of
    a name, as in the WebUI."""
    found: dict[str, Path] = {}
    for folder in lora_folders():
        found |= {path.stem: path for path in a1111.walk_files(folder, _WEBUI_SUFFIXES)}
    for folder in folders():
        for path in a1111.walk_files(folder, MOTION_FILE_SUFFIXES):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def _ours(name: str, files: Mapping[str, Path]) -> Path | None:
    """The motion LoRA or adapter of a tag, by the WebUI's rules: the name of the file, or an unambiguous alias."""
    named = files.get(name)
    if named is None and name:
        aliased = [path for path in files.values() if lora_file(path).alias == name]
        named = aliased[0] if len(aliased) == 1 else None
    return named if named is not None and lora_file(named).kind else None


# ---- in a clip


@dataclass(frozen=True)
class LoadedLoras:
    """The motion module and the adapters of a clip.

    Attributes:
        motion: the motion module with the motion LoRAs merged into it; without motion LoRAs, the given module.
        adapters: domain adapters with their strengths, for `apply_domain_adapters`, which reports on them.
        reports: one line per motion LoRA, which reports how much of it fits.
    """

    motion: MotionModule
    adapters: list[tuple[DomainAdapter, float]]
    reports: list[str]


class LoraCache:
    """Keeps the last LoRAs, so that the next clip with them starts at once. Changed files are loaded again.

    Merging copies the motion module. The copy is freed when other LoRAs, or none, are requested.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[Any, ...] = ()
        self._base: weakref.ref[MotionModule] | None = None
        self._loaded: LoadedLoras | None = None

    def load(self, motion: MotionModule, loras: Sequence[LoraFile]) -> LoadedLoras:
        """The motion module with its LoRAs for a clip; ``motion`` itself does not change.

        Raises:
            MotionFileError: a file is damaged or was deleted.
            IncompatibleModelError: nothing of a motion LoRA fits the motion module.
        """
        with self._lock:
            key = tuple((lora.path, *_version(lora.path), lora.strength) for lora in loras)
            same = self._base is not None and self._base() is motion
            if self._loaded is None or not same or self._key != key:
                self._loaded = None  # free the former copy before the next one is created
                loaded = _load(motion, loras)
                if loaded.motion is motion:  # its own cache keeps it, and must be able to free it
                    return loaded
                self._loaded, self._base, self._key = loaded, weakref.ref(motion), key
            return self._loaded


def _load(motion: MotionModule, loras: Sequence[LoraFile]) -> LoadedLoras:
    changes: list[tuple[MotionLora, float]] = []
    adapters: list[tuple[DomainAdapter, float]] = []
    for lora in loras:
        if lora_file(lora.path).kind == ADAPTER:
            adapters.append((load_domain_adapter(lora.path), lora.strength))
        else:
            changes.append((load_motion_lora(lora.path), lora.strength))
    reports = [str(match_report(motion, lora)) for lora, _ in changes]
    acting = [(lora, strength) for lora, strength in changes if strength]
    return LoadedLoras(apply_motion_loras(motion, acting) if acting else motion, adapters, reports)


def _version(path: Path) -> tuple[int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise MotionFileError(
            f"{path.name} is no longer in {path.parent}. Choose another motion LoRA, or none.", code="AD-W04"
        ) from error
    return stat.st_mtime_ns, stat.st_size
