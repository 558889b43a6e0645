"""What the page's player and API clients learn about a clip beside its images. See docs/api.md."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lib_animatediff.video import Motion

_DIGITS = 3  # of a change; the page's chart is some hundred pixels high


def clip_facts(
    files: Sequence[Path], size: tuple[int, int], frames: int, fps: float, motion: Motion | None
) -> dict[str, Any]:
    """Files, length and seams of a clip, as JSON.

    Args:
        size: width and height of the frames.
        frames: number of frames that the clip shows.
        motion: measured changes; None if they could not be measured.
    """
    seam = motion.worst_seam if motion else None
    return {
        "files": [str(path.absolute()) for path in files],
        "sizes": [_bytes_of(path) for path in files],
        "size": list(size),
        "frames": frames,
        "fps": fps,
        "seam": None if seam is None else round(seam, 2),
        "loop_seam": round(motion.loop_seam, 2) if motion else None,
    }


def page_facts(infotext: str, motion: Motion | None) -> dict[str, Any]:
    """What only the page's player needs: the text that identifies the clip's image in the gallery, and the changes.

    A change is relative to the median of the clip. ``borders`` are the frames at which a context window begins.
    """
    if motion is None:
        return {"infotext": infotext}
    changes = [round(change / motion.usual, _DIGITS) for change in motion.changes]
    return {"infotext": infotext, "changes": changes, "borders": list(motion.borders)}


def _bytes_of(path: Path) -> int | None:
    """The size of a file; of a folder, that of its files; None if it was already deleted."""
    try:
        files = path.iterdir() if path.is_dir() else [path]
        return sum(file.stat().st_size for file in files)
    except OSError:
        return None
