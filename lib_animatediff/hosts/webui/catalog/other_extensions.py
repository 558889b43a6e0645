"""Other extensions that conflict with this one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111


def _existing_extensions() -> list[Any]:
    """The existing AnimateDiff extension and copies of it, enabled or not.

    Its script has the same title, and its top-level `motion_module.py` the same name as our package: the WebUI uses the
    one that it loads first.
    """
    return [known for known in a1111.installed_extensions() if (Path(known.path) / "motion_module.py").is_file()]


def model_folders() -> list[Path]:
    """Its folders of motion modules, which stay in our list when it is disabled, as `warning` advises."""
    return [Path(extension.path) / "model" for extension in _existing_extensions()]


def warning() -> str | None:
    """The advice if such an extension is enabled; otherwise None."""
    names = [Path(extension.path).name for extension in _existing_extensions() if extension.enabled]
    if not names:
        return None
    return (
        f"The extension {names[0]} is also enabled and has the same name. Only one of them can render a clip: disable "
        "the other one under Extensions. Its motion modules are already in this list and remain there."
    )
