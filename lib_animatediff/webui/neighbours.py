"""Other extensions that a person should know about."""

from __future__ import annotations

from pathlib import Path

from modules import extensions


def existing_extension() -> Path | None:
    """The folder of the existing AnimateDiff extension, or a copy of it, if it is installed and switched on.

    Its scripts have our title, and its top-level `motion_module.py` has our package's name: of the two, the one that
    the WebUI loads first keeps it.
    """
    for extension in extensions.extensions:
        folder = Path(extension.path)
        if extension.enabled and (folder / "motion_module.py").is_file():
            return folder
    return None


def warning() -> str | None:
    """What to tell about it."""
    folder = existing_extension()
    if folder is None:
        return None
    return (
        f"The extension {folder.name} is switched on, too, and answers to the same name. Only one of them can make a "
        "clip: switch the other off under Extensions. Its motion modules are in this list already."
    )
