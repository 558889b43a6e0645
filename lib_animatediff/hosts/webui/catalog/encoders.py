"""Finds and lists the user's SparseCtrl encoders and CameraCtrl models, and keeps the last ones loaded.

They are in the folders of motion modules. Encoders that users of the existing extension have in the WebUI's folder of
ControlNets are found by their names.
"""

from __future__ import annotations

import difflib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111
from motion_module import MotionFileError
from motion_module.files.weights import MOTION_FILE_SUFFIXES
from motion_module.sparse_ctrl.load import load_sparse_ctrl
from motion_module.sparse_ctrl.network import SparseCtrl

from .models import available_models, file_version, inspected, known_name, models_folder, without_badge

_CONTROLNETS, _NAMED = "ControlNet", "sparse"  # the folder, and a part of the names of encoders there
_MOST_KEPT = 3  # an encoder for images, one for scribbles, and a model of one of the others


@dataclass(frozen=True)
class Listed:
    """A kind of file in a list of its own.

    Attributes:
        what: for messages.
        example: the name of a file.
        badges: what the list says behind a name, by what `inspect_motion_file` says of the file.
    """

    what: str
    example: str
    badges: Mapping[str, str]


ENCODERS = Listed(
    "SparseCtrl encoder",
    "v3_sd15_sparsectrl_rgb.ckpt",
    {"a SparseCtrl encoder for images": "for images", "a SparseCtrl encoder for scribbles": "for scribbles"},
)
CAMERAS = Listed("CameraCtrl model", "CameraCtrl_pruned.safetensors", {"a CameraCtrl model": "camera"})


def available(listed: Listed) -> dict[str, Path]:
    """All files of a kind by their name in the list: the path inside their folder, with forward slashes."""
    return {name: path for name, path in _candidates().items() if _badge(path, listed)}


def choices(listed: Listed) -> list[str]:
    """The panel's list, with badges: ``v3_sd15_sparsectrl_rgb.ckpt [for images]``."""
    return [f"{name} [{_badge(path, listed)}]" for name, path in available(listed).items()]


def find_encoder(name: str) -> tuple[Path, str]:
    """The SparseCtrl encoder of a name, see `find_listed`."""
    return find_listed(name, ENCODERS)


def find_camera(name: str) -> tuple[Path, str]:
    """The CameraCtrl model of a name, see `find_listed`."""
    return find_listed(name, CAMERAS)


def find_listed(name: str, listed: Listed) -> tuple[Path, str]:
    """The file for a name in the list, with or without badge and suffix, and that name. Other paths are not accepted.

    Another model's file is found, too, since its reader says what it is.

    Raises:
        MotionFileError: there is no such file.
    """
    files = _candidates()
    known = known_name(name, files)
    if known is not None:
        return files[known], known
    bare = without_badge(name)
    names = list(available(listed))
    if not names:
        raise MotionFileError(
            f"There is no {listed.what} {bare!r:.80}, nor any other, in {models_folder()}. Put the file (such as "
            f"{listed.example}) there.",
            code="AD-W60",
        )
    nearest = difflib.get_close_matches(bare, names, n=1) or names
    raise MotionFileError(
        f"There is no {listed.what} {bare!r:.80} in {models_folder()}. Choose one of the list, such as {nearest[0]}.",
        code="AD-W61",
    )


def _candidates() -> dict[str, Path]:
    """Files that may be encoders, by their names."""
    found = available_models()
    folder = a1111.models_folder() / _CONTROLNETS
    for path in sorted(a1111.walk_files(folder, MOTION_FILE_SUFFIXES)):
        if _NAMED in path.name.lower() and path.is_file():
            found.setdefault(path.relative_to(folder).as_posix(), path)
    return found


def _badge(path: Path, listed: Listed) -> str:
    """What the list says behind the name of a file; empty for other files."""
    try:
        return listed.badges.get(inspected(path).what, "")
    except OSError:  # it was just deleted
        return ""


class EncoderCache:
    """Keeps the last models, so that the next clip starts at once. A changed file is loaded again."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: OrderedDict[Path, tuple[tuple[int, int, int], Any]] = OrderedDict()

    def load(self, path: Path) -> SparseCtrl:
        """The SparseCtrl encoder of a file.

        Raises:
            MotionFileError: see `load_sparse_ctrl`.
        """
        return self.load_by(load_sparse_ctrl, path)  # type: ignore[no-any-return]

    def load_by(self, read: Callable[[Path], Any], path: Path) -> Any:
        """What a function reads of a file, which belongs to one function only.

        Raises:
            MotionFileError: the file was deleted, or the function raises it.
        """
        with self._lock:
            try:
                version = file_version(path)
            except OSError as error:
                raise MotionFileError(
                    f"{path.name} is no longer in {path.parent}. Choose another file, or none.", code="AD-W62"
                ) from error
            known = self._kept.pop(path, None)
            if known is None or known[0] != version:
                known = None  # free it, and the one that was not used for longest, before the next one is loaded
                while len(self._kept) >= _MOST_KEPT:
                    self._kept.popitem(last=False)
                known = version, read(path)
            self._kept[path] = known
            return known[1]
