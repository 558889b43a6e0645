"""Datasets on disk: a WebVid CSV, or a folder of videos with caption files."""

from __future__ import annotations

import csv
from pathlib import Path

from motion_module.limits import is_file, is_folder, read_limited

from .settings import TrainingError, TrainingSettings
from .videos import VideoSource

VIDEO_SUFFIXES = (".mp4", ".mov", ".webm", ".mkv", ".avi", ".m4v", ".gif")
COLUMNS = ("videoid", "name")  # WebVid's third column, page_dir, is not used


def open_source(settings: TrainingSettings) -> VideoSource:
    """Open the dataset that the settings name.

    Raises:
        TrainingError: it does not exist or is empty.
    """
    if not settings.data:
        raise TrainingError("No training data is set. Set data to a folder of videos or a WebVid CSV.", code="AD-T24")
    path = Path(settings.data)
    if is_folder(path):
        return VideoSource(folder_items(path, settings.caption), settings)
    if is_file(path):
        return VideoSource(csv_items(path, Path(settings.videos) if settings.videos else path.parent), settings)
    raise TrainingError(f"{path} does not exist. Check the path.", code="AD-T25")


def folder_items(folder: Path, caption: str = "") -> list[tuple[Path, str]]:
    """Videos of a folder and its subfolders, with the text file of the same name as caption, or else ``caption``.

    Raises:
        TrainingError: there are no videos.
    """
    videos = sorted(path for path in folder.rglob("*") if path.suffix.lower() in VIDEO_SUFFIXES)
    if not videos:
        raise TrainingError(
            f"{folder} contains no videos ({', '.join(VIDEO_SUFFIXES)}). Choose another folder.", code="AD-T26"
        )
    return [(path, _caption_beside(path, caption)) for path in videos]


def _caption_beside(video: Path, otherwise: str) -> str:
    text = video.with_suffix(".txt")
    return " ".join(read_limited(text).decode(errors="replace").split()) if text.is_file() else otherwise


def csv_items(table: Path, videos: Path) -> list[tuple[Path, str]]:
    """Rows of a WebVid CSV: the video is ``<videos>/<videoid>.mp4``, its caption ``name``.

    Raises:
        TrainingError: columns are missing, or there are no rows.
    """
    with table.open(newline="", encoding="utf-8-sig", errors="replace") as file:
        rows = csv.DictReader(file)
        try:
            items = _csv_rows(rows, table.name, videos)
        except csv.Error as error:
            raise TrainingError(
                f"{table.name} cannot be read at line {rows.line_num} ({error}). Correct the line.", code="AD-T37"
            ) from error
    if not items:
        raise TrainingError(f"{table.name} contains no rows. Choose another CSV.", code="AD-T28")
    return items


def _csv_rows(rows: csv.DictReader[str], table: str, videos: Path) -> list[tuple[Path, str]]:
    missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
    if missing:
        raise TrainingError(
            f"{table} lacks the column {' and '.join(missing)}. WebVid's columns are videoid,name,page_dir.",
            code="AD-T27",
        )
    return [(videos / f"{row['videoid']}.mp4", row["name"] or "") for row in rows if row["videoid"]]
