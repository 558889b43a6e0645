"""Source videos and images of clips: which paths of a request may be read.

Anyone who can open the page or the API can send a path. So it must lead into a folder from which the WebUI gives files
to its page anyway.
"""

from __future__ import annotations

from pathlib import Path

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.video.series import is_pattern
from lib_animatediff.video.source import Source
from motion_module import ClipError
from motion_module.limits import exists


def find_source(text: str) -> tuple[Path, str]:
    """The path of a request as a full one, and relative to its folder, as infotexts have it.

    A relative path is looked for in each of the folders that the WebUI may read.

    Raises:
        ClipError: it is an address, or leads out of these folders.
    """
    given = Path(text)
    Source(given)  # refuses addresses
    folders = [folder.resolve() for folder in a1111.readable_folders()]
    candidates = [given] if given.is_absolute() else [folder / given for folder in folders]
    found = [_resolved(path) for path in candidates]
    present = [path for path in found if exists(path) or is_pattern(path)]
    places = ((path, folder) for path in present or found for folder in folders if path.is_relative_to(folder))
    path, folder = next(places, (None, None))
    if path is None or folder is None:
        raise ClipError(
            f"{text} is outside the folders that the WebUI may read. Copy the file into {folders[0]}, or start the "
            "WebUI with --gradio-allowed-path and the folder of the file.",
            code="AD-W32",
        )
    return path, path.relative_to(folder).as_posix()


def _resolved(path: Path) -> Path:
    """A path without links; of a pattern, whose name has wildcards, that of its folder."""
    return path.parent.resolve() / path.name if is_pattern(path) else path.resolve()
