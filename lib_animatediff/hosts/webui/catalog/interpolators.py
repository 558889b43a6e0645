"""Finds the user's files of RIFE."""

from __future__ import annotations

from pathlib import Path

from lib_animatediff.hosts.webui.compat import a1111
from motion_module import AnimateDiffError
from motion_module.limits import is_file


def rife_folder() -> Path:
    """The folder of RIFE files."""
    return a1111.models_folder() / "RIFE"


def find_rife(name: str) -> Path:
    """The file with a name in `rife_folder`. Anyone who can open the page can send a name, so it leads nowhere else.

    Raises:
        AnimateDiffError: there is none.
    """
    path = rife_folder() / name
    if Path(name).name != name or not is_file(path):
        raise AnimateDiffError(
            f"There is no RIFE file {name!r:.80} in {rife_folder()}. Put it there, or set interpolator to auto, dis or "
            "rife.",
            code="AD-V92",
        )
    return path
