"""Finds and lists the user's motion modules, and keeps the last one loaded."""

from __future__ import annotations

import difflib
import os
import re
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from pathlib import Path

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.hosts.webui.compat.options import FOLDER_OPTION
from lib_animatediff.request.compat import SAME_MODULES
from lib_animatediff.request.methods import WITHOUT_FILE, name_without_file
from motion_module import MotionFileError, MotionFileInfo, MotionModule, inspect_motion_file, load_motion_module
from motion_module.files.diffusers_format import CONFIG
from motion_module.files.weights import MOTION_FILE_SUFFIXES
from motion_module.image_encoder.header import has_image_encoder
from motion_module.image_input import has_image_input
from motion_module.kinds import I2V, PIA

from .checkpoint import Checkpoint, chosen_checkpoint
from .lora_files import lora_file
from .other_extensions import model_folders

WHERE_TO_GET = "https://huggingface.co/guoyww/animatediff"
OWN_FOLDER = Path(__file__).resolve().parents[4] / "model"  # as in the existing extension
_BASES = {"sd15": "SD 1.5", "sdxl": "SDXL"}
NO_FILE = "[no file, any checkpoint]"  # the badge of a method that needs no motion module
OR_WITHOUT = f"Or choose {' or '.join(WITHOUT_FILE)}, which needs no file."
_NOT_FITTING = ": not for this checkpoint"  # in the badge of a motion module
_A_MODULE = "a motion module"  # how `MotionFileInfo.what` begins for every motion module
_BADGE = re.compile(r" \[[^\]]*\]$")


def models_folder() -> Path:
    """The default folder of motion modules. Updating or removing the extension does not change it."""
    return a1111.models_folder() / "animatediff"


def folders() -> list[Path]:
    """All folders that are searched. A file hides files of the same name in later folders."""
    chosen = str(a1111.opts().data.get(FOLDER_OPTION) or "").strip()
    return [
        models_folder(),
        *([Path(os.path.expanduser(chosen))] if chosen else []),  # noqa: PTH111 - Path's own raises for an unknown ~name
        OWN_FOLDER,
        *model_folders(),
    ]


def available_models() -> dict[str, Path]:
    """All motion module files by their name in the list: the path inside the folder, with forward slashes.

    If one folder is inside another, a file has one name, in the earlier folder. Motion LoRAs and domain adapters in
    these folders are omitted, see `loras.available_loras`.
    """
    found: dict[str, Path] = {}
    places: set[Path] = set()
    for folder in folders():
        real = folder.resolve()
        # The WebUI's own function, so that links are followed as in its folder of checkpoints.
        for path in sorted(a1111.walk_files(folder, MOTION_FILE_SUFFIXES)):
            name = path.relative_to(folder)
            if path.is_file() and real / name not in places and not lora_file(path).kind:
                places.add(real / name)
                found.setdefault(name.as_posix(), path)
    return dict(sorted(found.items()))


class Use(IntEnum):
    """What a file in the list can be used for, in the order of the list."""

    FITS = 0  # the loaded checkpoint, or any if none is loaded
    OTHER_CHECKPOINT = 1
    NONE = 2  # a broken motion module, or another kind of file


@dataclass(frozen=True)
class Entry:
    """A file in the list.

    Attributes:
        name: the path inside its folder.
        text: the name with its badge, as the panel shows it: ``v3_sd15_mm.ckpt [v3, SD 1.5]``.
        is_module: whether it is a motion module, even a broken one.
    """

    name: str
    text: str
    path: Path
    use: Use
    is_module: bool


def entries() -> list[Entry]:
    """The files in the list: those that fit the loaded checkpoint, those that do not, and other kinds of files."""
    checkpoint = chosen_checkpoint()
    listed = (_entry(name, path, checkpoint) for name, path in available_models().items())
    return sorted(listed, key=lambda entry: entry.use)


def choices(listed: Sequence[Entry] | None = None) -> list[str]:
    """The panel's list, in the order of `entries`, which are read if not given. Methods without a file come last."""
    return [
        *(entry.text for entry in (entries() if listed is None else listed)),
        *(f"{name} {NO_FILE}" for name in WITHOUT_FILE),
    ]


def selected(value: str, listed: Sequence[Entry] | None = None, *, is_choice: bool = True) -> str:
    """The entry of the list that the panel's field shows.

    Args:
        value: the entry that it shows now; the badge may be out of date.
        listed: the `entries`; None: read them.
        is_choice: whether the user chose it. Otherwise a file that does not fit the checkpoint is replaced, too.

    Returns:
        The same choice with its present badge. Where there is none, or its file is gone, the first file that fits the
        checkpoint; empty if none does.
    """
    if method := method_without_file(value):
        return f"{method} {NO_FILE}"
    listed = entries() if listed is None else listed
    present = _entry_of(value, listed)
    if present is not None and (is_choice or present.use is Use.FITS):
        return present.text
    return next((entry.text for entry in listed if entry.use is Use.FITS), "")


def _entry_of(name: str, listed: Sequence[Entry]) -> Entry | None:
    try:
        path = find_model(name) if name else None
    except MotionFileError:
        return None
    return next((entry for entry in listed if entry.path == path), None)


def kind_of(path: Path) -> str | None:
    """The kind of a motion module; None for other files, and for one that was just deleted."""
    try:
        return inspected(path).kind
    except OSError:
        return None


def method_without_file(name: str) -> str | None:
    """The method without a file for a name in the list, with or without its badge; None for a file."""
    return name_without_file(without_badge(name))


def canonical_name(name: str) -> str:
    """The name for infotexts and recipes: that in the list without its badge; ``name`` itself for an unknown file."""
    if method := method_without_file(name):
        return method
    try:
        return listed_name(find_model(name))
    except MotionFileError:
        return name


def _entry(name: str, path: Path, checkpoint: Checkpoint | None) -> Entry:
    """A file's entry in the list; without badge if it was just deleted."""
    try:
        found = inspected(path)
    except OSError:
        return Entry(name, name, path, Use.NONE, is_module=False)
    if found.kind is None or found.base is None:
        return Entry(name, f"{name} [{found.what}]", path, Use.NONE, found.what.startswith(_A_MODULE))
    fits = checkpoint is None or not checkpoint.unsuited(found)
    badge = f"{found.kind}, {_BASES[found.base]}{'' if fits else _NOT_FITTING}"
    return Entry(name, f"{name} [{badge}]", path, Use.FITS if fits else Use.OTHER_CHECKPOINT, is_module=True)


def inspected(path: Path) -> MotionFileInfo:
    """What a file of the list is.

    Raises:
        OSError: it was just deleted.
    """
    return _inspected(path, *file_version(path))


def choice(name: str) -> str:
    """The panel's entry for a name from a saved image or a client; the name itself for an unknown file."""
    if method := method_without_file(name):
        return f"{method} {NO_FILE}"
    try:
        path = find_model(name)
    except MotionFileError:
        return name
    return _entry(listed_name(path), path, chosen_checkpoint()).text


def listed_name(path: Path) -> str:
    """The name of a file in the list; its own name if it was just deleted."""
    return next((name for name, listed in available_models().items() if listed == path), path.name)


def find_model(name: str) -> Path:
    """The file for a name in the list, with or without badge and suffix. Other paths are not accepted.

    Raises:
        MotionFileError: there is no such file, or the name is empty and there are several files.
    """
    models = available_models()
    if not models:
        raise MotionFileError(f"{none_found()} Then refresh the list. {OR_WITHOUT}", code="AD-W05")
    if not name and len(models) == 1:
        return next(iter(models.values()))
    stems = _stems(models)
    known = known_name(name, models)
    known = known or next((stems[other] for other in _other_names(without_badge(name)) if other in stems), None)
    if known is None:
        nearest = difflib.get_close_matches(name, [*models, *stems, *WITHOUT_FILE], n=1) or [entries()[0].name]
        asked = f"There is no motion module {name!r} in {models_folder()}." if name else "No motion module was chosen."
        raise MotionFileError(f"{asked} Choose one of the list, for example {nearest[0]}.", code="AD-W06")
    return models[known]


def known_name(name: str, files: Mapping[str, Path]) -> str | None:
    """The name in a list of files for a name with or without badge and suffix; None: there is none."""
    bare, stems = without_badge(name), _stems(files)
    return next((each for each in (name, stems.get(name), bare, stems.get(bare)) if each in files), None)


def without_badge(name: str) -> str:
    """A name of a list without what the list says behind it."""
    return _BADGE.sub("", name)


def _stems(files: Iterable[str]) -> dict[str, str]:
    """The names in a list of files by those without suffix."""
    return {known.rpartition(".")[0]: known for known in files}


def _other_names(name: str) -> tuple[str, ...]:
    """Names without suffix under which the same motion module is published."""
    bare = name.rpartition(".")[0] if name.lower().endswith(MOTION_FILE_SUFFIXES) else name
    return next((names for names in SAME_MODULES if bare in names), ())


def none_found() -> str:
    """The advice for users without a motion module."""
    return (
        f"No motion module was found. Download one (such as v3_sd15_mm.ckpt, from {WHERE_TO_GET}) and put it into "
        f"{models_folder()}."
    )


def file_version(path: Path) -> tuple[int, int, int]:
    """The state of a file, and of a MotionAdapter's config in the same folder.

    Raises:
        OSError: it was just deleted.
    """
    stat, config = path.stat(), path.parent / CONFIG
    return stat.st_mtime_ns, stat.st_size, config.stat().st_mtime_ns if config.is_file() else 0


@lru_cache(maxsize=1024)
def _inspected(path: Path, _changed: int, _size: int, _config_changed: int) -> MotionFileInfo:
    """Cached, since reading the headers of a large folder at every refresh would be slow."""
    found = inspect_motion_file(path)
    kind = _kind_with_image(path) if found.kind is None else None
    return inspect_motion_file(path, kind=kind) if kind else found


def _kind_with_image(path: Path) -> str | None:
    """The kind of a motion module that makes clips together with an image only, which no file states."""
    if has_image_input(path):
        return PIA.name
    return I2V.name if has_image_encoder(path) else None


class MotionModuleCache:
    """Keeps the last motion module, so that the next clip starts at once. A changed file is loaded again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[Path, int, int, int] | None = None
        self._motion: MotionModule | None = None

    def load(self, path: Path) -> MotionModule:
        """The motion module of a file.

        Raises:
            MotionFileError: see `load_motion_module`.
        """
        with self._lock:
            try:
                key = (path, *file_version(path))
            except OSError as error:
                raise MotionFileError(
                    f"{path.name} is no longer in {path.parent}. Refresh the list and choose another motion module.",
                    code="AD-W07",
                ) from error
            if self._motion is None or self._key != key:
                self._motion = None  # free the former one before the next one is loaded
                kind = _kind_with_image(path)  # such a file is no module without an image
                self._motion = load_motion_module(path, kind=kind) if kind else load_motion_module(path)
                self._key = key
            return self._motion
