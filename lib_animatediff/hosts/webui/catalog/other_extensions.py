"""Other extensions that a person should know about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lib_animatediff.hosts.webui.compat import a1111


def _existing_extensions() -> list[Any]:
    """The existing AnimateDiff extension and copies of it, switched on or off.

    Its scripts have our title, and its top-level `motion_module.py` has our package's name: of the two, the one that
    the WebUI loads first keeps it.
    """
    return [known for known in a1111.installed_extensions() if (Path(known.path) / "motion_module.py").is_file()]


def model_folders() -> list[Path]:
    """Where it has its motion modules; they stay in our list when it is switched off, as `warning` advises."""
    return [Path(extension.path) / "model" for extension in _existing_extensions()]


def warning() -> str | None:
    """What to tell about one that is switched on."""
    names = [Path(extension.path).name for extension in _existing_extensions() if extension.enabled]
    if not names:
        return None
    return (
        f"The extension {names[0]} is switched on, too, and answers to the same name. Only one of them can make a "
        "clip: switch the other off under Extensions. Its motion modules are in this list already, and stay there."
    )
