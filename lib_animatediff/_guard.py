"""Refuse a foreign module named ``motion_module``, which the existing AnimateDiff extension has, by its file."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path


def require_own_motion_module() -> None:
    """Check that ``motion_module`` is the package that belongs to this one.

    Raises:
        ImportError: another file of that name comes first on the path; the message names it.
    """
    spec = find_spec("motion_module")
    if spec is None:
        raise ImportError("lib_animatediff needs the package motion_module, which is installed with it. Reinstall it.")
    found = Path(spec.origin or "")
    if found.name == "__init__.py" and hasattr(import_module("motion_module"), "load_motion_module"):
        return
    raise ImportError(
        f"lib_animatediff needs its own package motion_module, but Python finds {found} first. Remove that file's "
        "folder from sys.path, or rename the file."
    )
