"""The motion modules that the user has put into the WebUI's folder."""

from __future__ import annotations

import difflib
import threading
from pathlib import Path

from modules import paths, util

from motion_module import MotionFileError, MotionModule, load_motion_module
from motion_module.files import MOTION_FILE_SUFFIXES


def models_folder() -> Path:
    """Where motion modules belong; updating or removing the extension does not touch it."""
    return Path(paths.models_path) / "animatediff"


def available_models() -> dict[str, Path]:
    """Every motion module file by its name in the list: the path inside the folder, with forward slashes."""
    folder = models_folder()
    # The WebUI's own walk, so that links to files and folders are followed as in its folder of checkpoints.
    paths_found = map(Path, util.walk_files(str(folder), allowed_extensions=MOTION_FILE_SUFFIXES))
    return {listed_name(path): path for path in sorted(paths_found) if path.is_file()}


def listed_name(path: Path) -> str:
    """The name under which a file of the folder stands in the list."""
    return path.relative_to(models_folder()).as_posix()


def find_model(name: str) -> Path:
    """The file that a name from the list stands for; the suffix may be left out. Nothing outside the folder is found.

    Raises:
        MotionFileError: there is no such file, or no name was given and the choice is not clear.
    """
    models = available_models()
    if not models:
        raise MotionFileError(
            f"No motion module was found. Put one (such as v3_sd15_mm.ckpt) into {models_folder()} and refresh "
            "the list."
        )
    if not name and len(models) == 1:
        return next(iter(models.values()))
    stems = {known.rpartition(".")[0]: path for known, path in models.items()}
    found = models.get(name) or stems.get(name)
    if found is None:
        nearest = difflib.get_close_matches(name, [*models, *stems], n=1) or list(models)
        asked = f"There is no motion module {name!r} in {models_folder()}." if name else "No motion module was chosen."
        raise MotionFileError(f"{asked} Choose one of the list, for example {nearest[0]}.")
    return found


class MotionModuleCache:
    """Keeps the motion module last used, so that the next clip starts at once; reads a changed file anew."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._key: tuple[Path, int, int] | None = None
        self._motion: MotionModule | None = None

    def load(self, path: Path) -> MotionModule:
        """The file's motion module.

        Raises:
            MotionFileError: see `load_motion_module`.
        """
        with self._lock:
            stat = path.stat()
            key = (path, stat.st_mtime_ns, stat.st_size)
            if self._motion is None or self._key != key:
                self._motion = None  # let the former one go before the next needs its memory
                self._motion, self._key = load_motion_module(path), key
            return self._motion
