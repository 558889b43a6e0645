"""Data sets on the disk: WebVid's table of captions, or a folder of videos with captions beside them."""

from __future__ import annotations

import csv
from pathlib import Path

from .settings import TrainingError, TrainingSettings
from .videos import VideoSource

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif")
COLUMNS = ("videoid", "name")  # a third one, page_dir, is read by nobody


def open_source(settings: TrainingSettings) -> VideoSource:
    """The data set that the settings name.

    Raises:
        TrainingError: there is none, or it is empty.
    """
    if not settings.data:
        raise TrainingError("Say what to train on: data, a folder of videos or a WebVid CSV.")
    path = Path(settings.data)
    if path.is_dir():
        return VideoSource(folder_items(path, settings.caption), settings)
    if path.is_file():
        return VideoSource(csv_items(path, Path(settings.videos) if settings.videos else path.parent), settings)
    raise TrainingError(f"There is no {path}. Check the path.")


def folder_items(folder: Path, caption: str = "") -> list[tuple[Path, str]]:
    """Videos of a folder and of those inside it; the caption is the text file of the same name, or the one given.

    Raises:
        TrainingError: there are no videos.
    """
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise TrainingError(f"{folder} holds no videos ({', '.join(VIDEO_SUFFIXES)}).")
    return [(path, _caption_beside(path, caption)) for path in videos]


def _caption_beside(video: Path, otherwise: str) -> str:
    text = video.with_suffix(".txt")
    return " ".join(text.read_text(encoding="utf-8", errors="replace").split()) if text.is_file() else otherwise


def csv_items(table: Path, videos: Path) -> list[tuple[Path, str]]:
    """Rows of WebVid's table: the video is ``<videos>/<videoid>.mp4``, its caption ``name``.

    Raises:
        TrainingError: the table has other columns, or no rows.
    """
    with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.DictReader(file)
        missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
        if missing:
            raise TrainingError(
                f"{table.name} has no column {' and '.join(missing)}. WebVid's are videoid,name,page_dir."
            )
        items = [(videos / f"{row['videoid']}.mp4", row["name"] or "") for row in rows if row["videoid"]]
    if not items:
        raise TrainingError(f"{table.name} has no rows.")
    return items
