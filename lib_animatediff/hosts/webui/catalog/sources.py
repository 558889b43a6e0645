"""Source videos and images of clips: which paths of a request may be read.

Anyone who can open the page or the API can send a path. So it must lead into a folder from which the WebUI gives files
to its page anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lib_animatediff.hosts.webui.compat import a1111
from lib_animatediff.video.series import is_pattern, is_series, series_files
from lib_animatediff.video.source import Source
from motion_module import ClipError
from motion_module.limits import exists


def find_source(text: str) -> tuple[Path, str]:
    """The path of a request as a full one, and relative to its folder, as infotexts have it.

    A relative path is looked for in each of the folders that the WebUI may read.

    Raises:
        ClipError: it is an address, leads out of these folders, or names a series of which an image does.
    """
    given = Path(text)
    Source(given)  # refuses addresses
    folders = [folder.resolve() for folder in a1111.readable_folders()]
    candidates = [given] if given.is_absolute() else [folder / given for folder in folders]
    found = [_resolved(path) for path in candidates]
    present = list(filter(_is_present, found))
    places = ((path, folder) for path in present or found for folder in folders if path.is_relative_to(folder))
    path, folder = next(places, (None, None))
    if path is None or folder is None:
        raise _outside(text, folders)
    if is_series(path):
        _check_series(text, path, folders)
    name = path.relative_to(folder)
    # Another file of that name in an earlier folder would be found first.
    first = next((each for each in (_resolved(one / name) for one in folders) if _is_present(each)), path)
    return path, name.as_posix() if first == path else path.as_posix()


def _check_series(text: str, path: Path, folders: Sequence[Path]) -> None:
    """Refuse what a single file would be refused for, and the files that others have uploaded, whose names are secret.

    Raises:
        ClipError: the images may not be read, or there are none.
    """
    if path.is_relative_to(folders[-1]):
        raise ClipError(
            f"{text} is in the folder of uploads, whose files belong to different users. Give the path of one file, or "
            "a folder elsewhere.",
            code="AD-W44",
        )
    for file in series_files(path):
        if not any(file.resolve().is_relative_to(folder) for folder in folders):
            raise _outside(str(file), folders)


def _outside(text: str, folders: Sequence[Path]) -> ClipError:
    return ClipError(
        f"{text} is outside the folders that the WebUI may read. Copy the file into {folders[0]}, or start the WebUI "
        "with --gradio-allowed-path and the folder of the file.",
        code="AD-W32",
    )


def _is_present(path: Path) -> bool:
    return any(path.parent.glob(path.name)) if is_pattern(path) else exists(path)


def _resolved(path: Path) -> Path:
    """A path without links; of a pattern, whose name has wildcards, that of its folder."""
    return path.parent.resolve() / path.name if is_pattern(path) else path.resolve()
