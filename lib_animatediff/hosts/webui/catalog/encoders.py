"""Finds and lists the user's SparseCtrl encoders, and keeps the last ones loaded.

They are in the folders of motion modules. Those that users of the existing extension have in the WebUI's folder of
ControlNets are found by their names.
"""

from __future__ import annotations

import difflib
import re
import threading
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

from lib_animatediff.hosts.webui.compat import a1111
from motion_module import MotionFileError
from motion_module.files.weights import MOTION_FILE_SUFFIXES
from motion_module.sparse_ctrl.load import load_sparse_ctrl, read_sparse_ctrl
from motion_module.sparse_ctrl.network import SparseCtrl

from .models import available_models, file_version, inspected, models_folder

_KINDS = {  # what `inspect_motion_file` says of an encoder, and the badge
    "a SparseCtrl encoder for images": "for images",
    "a SparseCtrl encoder for scribbles": "for scribbles",
}
_BADGE = re.compile(r" \[[^\]]*\]$")
_CONTROLNETS, _NAMED = "ControlNet", "sparse"  # the folder, and a part of the names of encoders there
_MOST_KEPT = 2  # one for images and one for scribbles


def available_encoders() -> dict[str, Path]:
    """All SparseCtrl encoders by their name in the list: the path inside their folder, with forward slashes."""
    return {name: path for name, path in _candidates().items() if _kind(path)}


def choices() -> list[str]:
    """The panel's list, with badges: ``v3_sd15_sparsectrl_rgb.ckpt [for images]``."""
    return [f"{name} [{_KINDS[_kind(path)]}]" for name, path in available_encoders().items()]


def find_encoder(name: str) -> tuple[Path, str]:
    """The file for a name in the list, with or without badge and suffix, and that name. Other paths are not accepted.

    Another model's file is found, too, since its reader says what it is.

    Raises:
        MotionFileError: there is no such file.
    """
    files = _candidates()
    bare = _BADGE.sub("", name)
    stems = {known.rpartition(".")[0]: known for known in files}
    known = next((each for each in (name, bare, stems.get(name), stems.get(bare)) if each in files), None)
    if known is not None:
        return files[known], known
    listed = list(available_encoders())
    if not listed:
        raise MotionFileError(
            f"There is no SparseCtrl encoder {bare!r:.80}, nor any other, in {models_folder()}. Put the file (such as "
            "v3_sd15_sparsectrl_rgb.ckpt) there.",
            code="AD-W60",
        )
    nearest = difflib.get_close_matches(bare, listed, n=1) or listed
    raise MotionFileError(
        f"There is no SparseCtrl encoder {bare!r:.80} in {models_folder()}. Choose one of the list, such as "
        f"{nearest[0]}.",
        code="AD-W61",
    )


def encoder_parameters(path: Path) -> int:
    """The number of weights of an encoder.

    Raises:
        MotionFileError: it is none.
        OSError: it was just deleted.
    """
    return _parameters(path, *file_version(path))


@lru_cache(maxsize=16)
def _parameters(path: Path, *_version: int) -> int:
    return read_sparse_ctrl(path).parameters


def _candidates() -> dict[str, Path]:
    """Files that may be encoders, by their names."""
    found = available_models()
    folder = a1111.models_folder() / _CONTROLNETS
    for path in sorted(a1111.walk_files(folder, MOTION_FILE_SUFFIXES)):
        if _NAMED in path.name.lower() and path.is_file():
            found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def _kind(path: Path) -> str:
    """The key of `_KINDS` for a file; empty for other files."""
    try:
        what = inspected(path).what
    except OSError:  # it was just deleted
        return ""
    return what if what in _KINDS else ""


class EncoderCache:
    """Keeps the last encoders, so that the next clip starts at once. A changed file is loaded again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[tuple[int, int, int], SparseCtrl]] = OrderedDict()

    def load(self, path: Path) -> SparseCtrl:
        """The encoder of a file.

        Raises:
            MotionFileError: see `load_sparse_ctrl`.
        """
        with self._lock:
            try:
                version = file_version(path)
            except OSError as error:
                raise MotionFileError(
                    f"{path.name} is no longer in {path.parent}. Choose another SparseCtrl encoder, or none.",
                    code="AD-W62",
                ) from error
            known = self._kept.pop(path, None)
            if known is None or known[0] != version:
                known = None  # free it, and the one that was not used for longest, before the next one is loaded
                while len(self._kept) >= _MOST_KEPT:
                    self._kept.popitem(last=False)
                known = version, load_sparse_ctrl(path)
            self._kept[path] = known
            return known[1]
